//! The style sheet, the script and the icon: under names with a hash of their content, so that they may be kept for good.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    extract::Path,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};

use crate::error::ApiError;

/// Something that pages load.
pub(crate) struct Asset {
    name: String,
    kind: &'static str,
    content: &'static str,
}

pub(crate) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let style = concat!(include_str!("../assets/palette.css"), include_str!("assets/style.css"));
    Asset::new("style", "css", "text/css; charset=utf-8", style)
});
pub(crate) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("script", "js", "text/javascript; charset=utf-8", include_str!("assets/script.js"))
});
pub(crate) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("assets/icon.svg")));

impl Asset {
    fn new(stem: &str, extension: &str, kind: &'static str, content: &'static str) -> Self {
        let hash = digest(&SHA256, content.as_bytes());
        let digits: String = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { name: format!("{stem}-{digits}.{extension}"), kind, content }
    }

    /// Where it is found.
    pub(crate) fn path(&self) -> String {
        format!("/assets/{}", self.name)
    }
}

/// `GET /assets/NAME`: for everybody, since it says nothing of anybody.
pub(crate) async fn get(Path(name): Path<String>) -> Result<Response, ApiError> {
    let known = [&*STYLE, &*SCRIPT, &*ICON].into_iter().find(|asset| asset.name == name);
    let asset = known.ok_or_else(|| {
        let message = format!("/assets/{name} is of another version; load the page again");
        ApiError::not_found(message)
    })?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((headers, asset.content).into_response())
}
