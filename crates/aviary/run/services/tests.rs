use super::*;
use crate::config::version_of;

const OLD: &str = "old";
const NEW: &str = "new";

fn document(text: &str) -> Document {
    Document::new("services from http://127.0.0.1:1".to_owned(), text.to_owned())
}

fn current(services: &Services) -> Option<String> {
    services.current().map(|it| it.text)
}

/// Services of a collector that tells these versions, with [`OLD`] running.
fn told(active: &str, candidate: Option<&str>) -> (Services, watch::Sender<Option<ToldVersions>>) {
    let mut services = Services::new(Push::default(), None);
    services.offered = Some(document(OLD));
    services.accept();
    let (tell, versions) = watch::channel(None);
    services.agent = Some((Box::new(|_| ()), versions));
    tell.send_replace(Some(versions_of(active, candidate)));
    (services, tell)
}

fn versions_of(active: &str, candidate: Option<&str>) -> ToldVersions {
    ToldVersions { active: version_of(active), candidate: candidate.map(version_of) }
}

#[tokio::test]
async fn the_copy_is_used_only_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join("made").join("anew");
    let text = "[[service]]\nname = \"ingest\"\n";
    let mut services = Services::new(Push::default(), Some(&directory));
    assert!(services.read_copy().is_none());
    services.offered = Some(document(text));
    services.accept();
    let kept = services.read_copy().unwrap();
    assert_eq!(kept.services.text, text);
    let path = directory.join(COPY);
    let damaged = std::fs::read_to_string(&path).unwrap().replace("ingest", "digest");
    std::fs::write(&path, damaged).unwrap();
    assert!(services.read_copy().is_none());
}

#[tokio::test]
async fn what_was_refused_neither_runs_nor_is_kept_and_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut services = Services::new(Push::default(), Some(directory.path()));
    services.offered = Some(document("good"));
    services.accept();
    services.offered = Some(document("bad"));
    assert_eq!(current(&services).as_deref(), Some("bad"));
    services.refuse("line 1");
    assert_eq!(
        (current(&services).as_deref(), services.why_refused()),
        (Some("good"), Some("line 1")),
        "a reload of the agent's own file goes on with what was good"
    );
    assert_eq!(services.read_copy().unwrap().services.text, "good");
    services.accept();
    assert_eq!(services.why_refused(), Some("line 1"), "until the collector tells something else");
    let (version, _) = services.to_build().unwrap();
    assert_eq!(services.built(version, Err("line 1".to_owned())), (false, false), "nothing new");
    assert_eq!(services.built(version, Ok(())), (true, true), "what was in its way is not there any more");
    services.accept();
    assert_eq!((current(&services).as_deref(), services.why_refused()), (Some("bad"), None));
}

#[tokio::test]
async fn a_candidate_is_fetched_prepared_and_taken_on_once_it_is_active() {
    let (mut services, tell) = told(OLD, Some(NEW));
    assert_eq!((services.heard(), services.wanted()), (None, Some(version_of(NEW))));
    assert_eq!(services.answered(Some(version_of(NEW)), Ok(Some(document(NEW)))), None);
    assert_eq!(services.heard(), Some(News::ToBuild));
    let (version, text) = services.to_build().unwrap();
    assert_eq!((version, text.text.as_str()), (version_of(NEW), NEW));
    assert_eq!(services.built(version, Err("no such file".to_owned())), (false, true));
    assert_eq!((services.heard(), services.why_refused()), (None, Some("no such file")));
    assert_eq!(current(&services).as_deref(), Some(OLD), "nothing runs but what ran");

    assert_eq!(services.try_again(), Some(News::ToBuild));
    assert_eq!(services.built(version, Ok(())), (false, true));
    assert_eq!((services.heard(), services.wanted(), services.why_refused()), (None, None, None));
    tell.send_replace(Some(versions_of(NEW, None)));
    assert_eq!(services.heard(), Some(News::Offered));
    services.accept();
    assert_eq!((services.heard(), services.wanted()), (None, None));
    assert_eq!(current(&services).as_deref(), Some(NEW));
    tell.send_replace(Some(versions_of(OLD, None)));
    assert_eq!((services.heard(), services.wanted()), (None, Some(version_of(OLD))), "and back");
}

#[tokio::test]
async fn a_candidate_that_is_gone_is_forgotten_and_one_that_is_not_there_is_asked_for_again() {
    let (mut services, tell) = told(OLD, Some(NEW));
    services.answered(Some(version_of(NEW)), Err(anyhow::anyhow!("404")));
    assert_eq!((services.heard(), services.wanted()), (None, None), "not at once");
    assert!(services.why_refused().is_some_and(|why| why.contains("404")));
    assert_eq!((services.try_again(), services.wanted()), (None, Some(version_of(NEW))));
    services.answered(Some(version_of(NEW)), Ok(Some(document(NEW))));
    tell.send_replace(Some(versions_of(OLD, None)));
    assert_eq!((services.heard(), services.to_build().is_none()), (Some(News::Dropped), true));
    assert_eq!(services.heard(), None);
}
