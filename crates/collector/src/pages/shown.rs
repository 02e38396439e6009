//! What somebody wants to see of a page: all of it stands in the query of its address, so that a link keeps the view.

use aviary_core::{Second, Tag, named};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    error::ApiError,
    sums::{second, unknown_parameter},
};

/// What a segment of a path is written with as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The tags that the matrix can have as columns, the usual one first.
pub(crate) const COLUMNS: [Tag; 5] = [Tag::Region, Tag::Network, Tag::Zone, Tag::Node, Tag::Kind];

named! {
    /// How much time a chart shows.
    pub(crate) enum Zoom {
        Minute = "1m",
        TenMinutes = "10m",
        Hour = "1h",
        SixHours = "6h",
        Day = "1d",
        Week = "1w",
        Month = "30d",
        Year = "1y",
    }
}

impl Zoom {
    /// How many seconds it shows, and how many of them are one point. From a week on a point is what is rolled up: whole
    /// hours, and in a year whole days.
    pub(crate) const fn seconds_and_step(self) -> (u64, u64) {
        match self {
            Self::Minute => (60, 1),
            Self::TenMinutes => (600, 1),
            Self::Hour => (3_600, 10),
            Self::SixHours => (21_600, 60),
            Self::Day => (86_400, 300),
            Self::Week => (604_800, 3_600),
            Self::Month => (2_592_000, 7_200),
            Self::Year => (31_536_000, 86_400),
        }
    }

    /// The same in words.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Minute => "1 minute",
            Self::TenMinutes => "10 minutes",
            Self::Hour => "1 hour",
            Self::SixHours => "6 hours",
            Self::Day => "1 day",
            Self::Week => "1 week",
            Self::Month => "30 days",
            Self::Year => "1 year",
        }
    }

    /// The closest that shows all of `seconds`.
    pub(crate) fn around(seconds: u64) -> Self {
        let fits = |zoom: &&Self| zoom.seconds_and_step().0 >= seconds;
        Self::ALL.iter().find(fits).copied().unwrap_or(Self::Year)
    }
}

/// What somebody wants to see of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shown {
    /// The columns of the matrix.
    pub(crate) by: Tag,
    /// How much time the chart shows.
    pub(crate) zoom: Zoom,
    /// Where the chart ends: now, if nothing is said.
    pub(crate) until: Option<Second>,
    /// Which part of a list that is longer than a page, from 1.
    pub(crate) page: usize,
}

impl Default for Shown {
    fn default() -> Self {
        Self { by: COLUMNS[0], zoom: Zoom::TenMinutes, until: None, page: 1 }
    }
}

impl Shown {
    /// Reads the parameters of a page's address.
    pub(crate) fn read(parameters: &[(String, String)]) -> Result<Self, ApiError> {
        let mut shown = Self::default();
        let refuse = |message: String| ApiError::bad_parameter(message);
        for (key, value) in parameters {
            match key.as_str() {
                "by" => {
                    let known = COLUMNS.into_iter().find(|tag| tag.name() == value);
                    shown.by = known.ok_or_else(|| {
                        let known = COLUMNS.map(Tag::name).join(", ");
                        refuse(format!("by: `{value}` is no column of the matrix; there are {known}"))
                    })?;
                }
                "span" => shown.zoom = value.parse().map_err(|error| refuse(format!("span: {error}")))?,
                "until" => shown.until = Some(second("until", value)?),
                "page" => {
                    let page = value.parse().ok().filter(|page| *page > 0);
                    shown.page =
                        page.ok_or_else(|| refuse(format!("page: `{value}` is no number from 1 on")))?;
                }
                other => return Err(unknown_parameter(other, "by, span, until, page")),
            }
        }
        Ok(shown)
    }

    /// The address of this view of the page at `path`; what is as usual is left out.
    pub(crate) fn at(&self, path: &str) -> String {
        let usual = Self::default();
        let mut query = Vec::new();
        if self.by != usual.by {
            query.push(format!("by={}", self.by));
        }
        if self.zoom != usual.zoom {
            query.push(format!("span={}", self.zoom));
        }
        if let Some(until) = self.until {
            query.push(format!("until={until}"));
        }
        if self.page != usual.page {
            query.push(format!("page={}", self.page));
        }
        if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
    }
}

/// The path of the page of the service `name`.
pub(crate) fn service_path(name: &str) -> String {
    format!("/{}", segment(name))
}

/// The path of the page of the incident `id`.
pub(crate) fn incident_path(id: &str) -> String {
    format!("/incidents/{}", segment(id))
}

/// `text` as one part of a path.
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Shown, String> {
        let pairs: Vec<(String, String)> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Shown::read(&pairs).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_link_keeps_the_view() {
        let table = [
            ("", "/x"),
            ("by=region&span=10m&page=1", "/x"),
            ("by=zone", "/x?by=zone"),
            ("span=1y&until=1763690400", "/x?span=1y&until=1763690400"),
            ("page=3&by=node&span=1m", "/x?by=node&span=1m&page=3"),
        ];
        for (query, expected) in table {
            let shown = read(query).unwrap();
            assert_eq!(shown.at("/x"), expected);
            let kept = shown.at("/x");
            assert_eq!(read(kept.split_once('?').map_or("", |(_, query)| query)).unwrap(), shown);
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_a_reason() {
        let table = [
            ("by=service", "no column of the matrix"),
            ("span=2h", "`2h` is not known"),
            ("until=now", "is no second"),
            ("page=0", "is no number from 1 on"),
            ("colour=red", "parameter `colour` is not known"),
        ];
        for (query, expected) in table {
            let message = read(query).unwrap_err();
            assert!(message.contains(expected), "{query}: {message}");
        }
    }

    #[test]
    fn every_zoom_is_whole_steps_and_is_found_by_what_it_shows() {
        for zoom in Zoom::ALL {
            let (seconds, step) = zoom.seconds_and_step();
            assert!(seconds.is_multiple_of(step) && seconds / step <= 600, "{zoom}");
            assert_eq!(Zoom::around(seconds), *zoom);
        }
        assert_eq!(Zoom::around(61), Zoom::TenMinutes);
        assert_eq!(Zoom::around(u64::MAX), Zoom::Year);
    }

    #[test]
    fn names_are_one_segment_of_a_path() {
        let table = [("ingest", "/ingest"), ("a b/c?d#e", "/a%20b%2Fc%3Fd%23e"), ("grün", "/gr%C3%BCn")];
        for (name, expected) in table {
            assert_eq!(service_path(name), expected);
        }
    }
}
