use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::Arc,
    sync::atomic::{AtomicU32, Ordering},
};

use super::*;

const AWS: &str = include_str!("../../../tests/fixtures/metadata/aws.txt");
const GCP: &str = include_str!("../../../tests/fixtures/metadata/gcp.txt");
const AZURE: &str = include_str!("../../../tests/fixtures/metadata/azure.txt");

/// Questions with their answers. Whatever is not asked for is not there, as with the other clouds' paths.
type Script = Vec<(String, Option<String>, u16, String)>;

/// A question is a line `METHOD PATH [HEADER: VALUE]`, and its answer the line after it, `STATUS BODY`.
fn script(text: &str) -> Script {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut script = Vec::new();
    while let (Some(question), Some(answer)) = (lines.next(), lines.next()) {
        let mut words = question.splitn(3, ' ');
        let request = words.by_ref().take(2).collect::<Vec<_>>().join(" ");
        let header = words.next().map(str::to_ascii_lowercase);
        let (status, body) = answer.split_once(' ').unwrap();
        script.push((request, header, status.parse().unwrap(), body.to_owned()));
    }
    script
}

/// A metadata service with this script, which fails whatever is asked before it has been asked `broken` times.
fn serve(script: Script, broken: u32) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines.next().and_then(Result::ok).unwrap_or_default();
            let headers: Vec<String> = lines
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .map(|line| line.to_ascii_lowercase())
                .collect();
            let request = request.trim_end_matches(" HTTP/1.1");
            let answer = script.iter().find(|(question, header, ..)| {
                question == request && header.as_ref().is_none_or(|header| headers.contains(header))
            });
            let (status, body) = match answer {
                _ if asked.fetch_add(1, Ordering::Relaxed) < broken => (503, ""),
                Some((.., status, body)) => (*status, body.as_str()),
                None => (404, ""),
            };
            let flavor = if request.contains("computeMetadata") { "metadata-flavor: Google\r\n" } else { "" };
            let location = if status == 302 { format!("location: {body}\r\n") } else { String::new() };
            let head = format!("HTTP/1.1 {status} X\r\n{flavor}{location}connection: close\r\n");
            _ = write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len());
        }
    });
    url
}

const BRIEF: Patience =
    Patience { question: Duration::from_secs(20), tries: 1, pause: Duration::from_millis(1) };

async fn asked(script: Script) -> Result<Place, String> {
    aviary_probe::install_crypto_provider();
    place(&serve(script, 0), BRIEF).await.map_err(|error| error.to_string())
}

/// The script of a cloud with one text in the place of another.
fn with(text: &str, from: &str, to: &str) -> Script {
    assert!(text.contains(from), "{from}");
    script(&text.replace(from, to))
}

#[tokio::test]
async fn each_cloud_says_where_its_hosts_are() {
    let place = |network, region: &str, zone: Option<&str>| {
        Ok(Place { network, region: region.to_owned(), zone: zone.map(str::to_owned) })
    };
    let table = [
        (script(AWS), place("aws", "eu-west-1", Some("eu-west-1a"))),
        (
            with(AWS, "200 eu-west-1a", "200 eu-west-1-lhr-1a"),
            place("aws", "eu-west-1", Some("eu-west-1-lhr-1a")),
        ),
        (script(GCP), place("gcp", "europe-west1", Some("europe-west1-b"))),
        (script(AZURE), place("azure", "westeurope", Some("2"))),
        (with(AZURE, "\"zone\":\"2\"", "\"zone\":\"\""), place("azure", "westeurope", None)),
    ];
    for (script, expected) in table {
        assert_eq!(asked(script).await, expected);
    }
}

#[tokio::test]
async fn an_answer_that_is_empty_or_strange_is_refused_whole() {
    let table = [
        (with(AWS, "200 eu-west-1a", "200 "), "aws: strange zone ``"),
        (with(AWS, "200 eu-west-1a", "200 us-east-1a"), "aws: zone us-east-1a is not in region eu-west-1"),
        (with(AWS, "200 eu-west-1a", "500 x"), "aws: status 500"),
        (with(AWS, "200 AQAE", "403 AQAE"), "aws: status 403"),
        (with(GCP, "/europe-west1-b", "/"), "gcp: strange zone ``"),
        (with(GCP, "europe-west1-b", "nowhere"), "gcp: strange zone `nowhere`"),
        (
            with(GCP, "200 projects/", "200 <html>/"),
            "gcp: strange answer `<html>/123456789012/zones/europe-west1-b`",
        ),
        (with(AZURE, "westeurope", ""), "azure: strange location ``"),
        (with(AZURE, "westeurope", "West Europe"), "azure: strange location `West Europe`"),
        (with(AZURE, "200 {", "200 ["), "azure: strange answer: "),
        (
            with(GCP, "200 projects/123456789012/zones/europe-west1-b", "302 http://127.0.0.1:1/"),
            "gcp: status 302",
        ),
    ];
    for (script, expected) in table {
        let error = asked(script).await.unwrap_err();
        assert!(error.starts_with("no cloud says at http://127.0.0.1:"), "{error}");
        assert!(error.contains(expected), "{expected} is not in {error}");
    }
}

#[tokio::test]
async fn two_clouds_at_once_are_none() {
    let both = script(AWS).into_iter().chain(script(AZURE)).collect();
    let error = asked(both).await.unwrap_err();
    assert!(error.ends_with("that this host is theirs: aws and azure"), "{error}");
}

#[tokio::test]
async fn a_service_that_is_not_up_yet_is_asked_again() {
    aviary_probe::install_crypto_provider();
    let patience = Patience { tries: 4, ..BRIEF };
    // Three questions a try: it answers rightly from the third try on.
    assert_eq!(place(&serve(script(GCP), 6), patience).await.unwrap().region, "europe-west1");
    assert!(place(&serve(script(GCP), 12), patience).await.is_err());
}

#[tokio::test]
async fn nobody_at_the_address_is_said_with_the_reason() {
    aviary_probe::install_crypto_provider();
    let error = place(&"http://127.0.0.1:1/".parse().unwrap(), BRIEF).await.unwrap_err();
    assert!(error.to_string().contains("aws: Connection refused"), "{error}");
}
