//! What customers are told while incidents come and go.

use aviary_core::page::Severity;

use super::*;
use crate::{
    Publish, ServiceStatus,
    status::{
        Act, Impact, PUBLICATIONS_MAX, Publication, Refused, Shown, Stage as Told, Standing, UPDATES_MAX,
        Words,
    },
};

/// One protocol is lost whole.
fn tcp_lost(_: &str, endpoint: &str, _: u64) -> Option<Outcome> {
    Some(if endpoint.starts_with("tcp") { TIMED_OUT } else { DELIVERED })
}

fn shown(publish: Publish) -> Shown {
    let status = ServiceStatus { name: Some("Ingest".to_owned()), publish, ..ServiceStatus::default() };
    Shown::new([("ingest".to_owned(), status)])
}

fn stage(publish: Publish) -> Stage {
    let stage = Stage::usual();
    stage.judgement.show(shown(publish));
    stage
}

impl Stage {
    /// What customers are told of the one incident.
    fn publication(&self) -> Publication {
        self.judgement.publication(&only(self.losses()), at(self.second)).unwrap()
    }

    fn act(&self, act: Act) -> Result<Publication, Refused> {
        self.judgement.tell_public(&only(self.losses()), vec![act], "ada", at(self.second))
    }

    fn said(&self) -> Vec<(u64, &'static str)> {
        let updates = self.publication().updates.into_iter();
        updates.map(|update| (update.at - START, update.stage.name())).collect()
    }

    fn is_kept(&self) -> bool {
        let life = Life::read(&*self.store, at(self.second).second()).unwrap();
        life.publications.iter().any(|it| *it == self.publication())
    }
}

#[test]
fn an_incident_opens_a_draft_that_nobody_but_a_person_publishes() {
    let mut stage = stage(Publish::Draft);
    stage.run(300, well);
    stage.run(30, tcp_lost);
    let opened = only(stage.losses()).opened.unwrap();
    let draft = stage.publication();
    assert_eq!((draft.standing, draft.drafted, draft.impact), (Standing::Draft, opened.0, Impact::Critical));
    assert_eq!(draft.title, "Ingest: data sent over tcp is lost");
    assert_eq!(
        draft.text,
        "Since 2025-11-21 02:05 UTC, data sent to Ingest over tcp has been lost. Nothing else is known to be affected. We are looking into it."
    );
    assert!(stage.is_kept());
    stage.run(200, tcp_lost);
    assert_eq!(stage.publication().standing, Standing::Draft);
    assert!(stage.judgement.public().1.is_empty(), "customers read nothing of a draft");

    let words = Words { title: Some("TCP is lost".to_owned()), impact: Some(Impact::Minor), text: None };
    stage.act(Act::Edit(words)).unwrap();
    stage.run(5, tcp_lost);
    let edited = stage.publication();
    assert_eq!(
        (edited.title.as_str(), edited.impact),
        ("TCP is lost", Impact::Minor),
        "what a person said stays"
    );
    stage.act(Act::Publish(Words::default())).unwrap();
    stage.judgement.flush().unwrap();
    assert_eq!(only(stage.judgement.public().1), stage.publication());
    assert!(stage.is_kept());

    // It ends, and what is said of that is for a person.
    stage.run(1_200, well);
    let publication = stage.publication();
    assert_eq!(publication.updates.len(), 1);
    assert_eq!(publication.over, only(stage.losses()).resolved.map(|at| at.0));
    let update = Act::Update { stage: Some(Told::Resolved), text: "A switch.".to_owned() };
    stage.act(update).unwrap();
    stage.act(Act::PostMortem("It was old.".to_owned())).unwrap();
    stage.judgement.flush().unwrap();
    let before = stage.publication();
    stage.restart();
    stage.judgement.show(shown(Publish::Draft));
    assert_eq!(stage.publication(), before);
    assert_eq!(before.updates[2].by.as_deref(), Some("ada"));
}

#[test]
fn a_service_that_wants_it_is_published_by_rule() {
    let mut stage = stage(Publish::Automatic { after_seconds: 60 });
    stage.run(300, well);
    stage.run(30, tcp_lost);
    let opened = only(stage.losses()).opened.unwrap().0 - START;
    assert_eq!(stage.publication().standing, Standing::Draft);
    stage.run(60, tcp_lost);
    assert_eq!(stage.said(), [(opened + 60, "investigating")]);
    // A person says more, and the rule goes on.
    stage.act(Act::Update { stage: Some(Told::Identified), text: "A switch.".to_owned() }).unwrap();
    stage.run(300, well);
    let resolved = only(stage.losses()).resolved.unwrap().0 - START;
    assert_eq!(stage.said()[2..], [(resolved, "monitoring")]);
    stage.run(900, well);
    assert_eq!(stage.said()[3..], [(resolved + 900, "resolved")]);
    assert!(stage.is_kept());
    let text = &stage.publication().updates[3].text;
    assert!(
        text.starts_with("Nothing has been lost since ") && text.ends_with("This incident is resolved."),
        "{text}"
    );

    // It comes back within half an hour: the same incident, and the same publication.
    stage.run(60, tcp_lost);
    assert_eq!(stage.said()[4].1, "investigating");
    assert!(stage.publication().is_unresolved());
}

#[test]
fn what_lasts_no_minute_is_not_published_and_its_draft_goes_in_time() {
    let mut stage = stage(Publish::Automatic { after_seconds: 60 });
    stage.run(300, well);
    stage.run(20, tcp_lost);
    stage.run(600, well);
    assert_eq!(stage.publication().standing, Standing::Draft);
    let id = only(stage.losses()).id;
    let later = at(stage.second + 31 * 86_400);
    stage.judgement.held().follow_in_public(later);
    stage.judgement.flush().unwrap();
    assert!(Life::read(&*stage.store, later.second()).unwrap().publications.is_empty(), "{id}");
}

#[test]
fn customers_hear_nothing_of_what_is_hidden_silenced_or_our_own() {
    let lost = |mut stage: Stage| {
        stage.run(300, well);
        stage.run(120, tcp_lost);
        stage
    };
    let hidden = lost(stage(Publish::Hidden));
    assert_eq!(hidden.judgement.publication(&only(hidden.losses()), at(420)), None);
    assert!(matches!(hidden.act(Act::Publish(Words::default())), Err(Refused::Hidden)));

    let silenced = stage(Publish::Automatic { after_seconds: 0 });
    let silence = Silence {
        id: "works".to_owned(),
        matches: Matches::one(Tag::Service, "ingest").and(Tag::Protocol, "tcp"),
        when: When::Once(Span::new(Second(START), Second(START + 9_000))),
        author: "ada".to_owned(),
        reason: "new switches".to_owned(),
        announce: None,
    };
    silenced.judgement.silence(silence, at(0)).unwrap();
    let silenced = lost(silenced);
    assert!(!only(silenced.losses()).silenced_by.is_empty());
    assert!(Life::read(&*silenced.store, Second(START)).unwrap().publications.is_empty());
    // A person may all the same.
    assert_eq!(silenced.act(Act::Publish(Words::default())).unwrap().standing, Standing::Published);

    let agent: Script = |region, _, _| Some(if region == "eu" { TIMED_OUT } else { DELIVERED });
    let mut ours = Stage::probing(
        ServiceOptions::unconfigured("ingest"),
        &[ENDPOINTS[0], ENDPOINTS[1], "tcp://billing:1"],
    );
    for series in ours.rosters.iter_mut().flat_map(|roster| roster.series.get_mut(2)) {
        series.service = "billing".to_owned();
    }
    ours.judgement.show(shown(Publish::Automatic { after_seconds: 0 }));
    ours.run(300, well);
    ours.run(120, agent);
    let is_ours = ours.losses().iter().all(|it| it.sick_agent().is_some());
    let told = ours.judgement.public().1;
    assert_eq!(told.is_empty(), is_ours, "{told:?}");
}

/// An incident of a lost protocol, while it lasts, and its publications, by rule.
fn published() -> (Incident, Publications) {
    let mut stage = stage(Publish::Automatic { after_seconds: 60 });
    stage.run(300, well);
    stage.run(90, tcp_lost);
    let publications = stage.judgement.held().publications.clone();
    let incident = only(stage.losses());
    assert_eq!(publications.get(incident.id.as_str()).unwrap().standing, Standing::Published);
    (incident, publications)
}

#[test]
fn the_impact_is_that_on_services_that_customers_know() {
    let (mut incident, publications) = published();
    let (ingest, worse) = ("ingest".to_owned(), incident.parts["ingest"].clone());
    incident.parts.insert("inner".to_owned(), worse);
    for (severity, impact) in [(Severity::Warning, Impact::Minor), (Severity::Error, Impact::Major)] {
        incident.parts.get_mut(&ingest).unwrap().severity = severity;
        assert_eq!(incident.severity(), Severity::Critical);
        assert_eq!(publications.draft(&incident, Second(START)).unwrap().impact, impact);
    }
}

/// The same as one that is only tried out.
fn shadow(incident: &Incident) -> Incident {
    let mut shadow = incident.clone();
    shadow.parts.values_mut().for_each(|part| part.policy.shadow = true);
    assert!(shadow.is_shadow());
    shadow
}

#[test]
fn what_customers_know_of_is_followed_to_its_end_whatever_it_is_taken_for_since() {
    let (incident, mut publications) = published();
    let mut over = shadow(&incident);
    let end = Second(START + 500);
    (over.state, over.resolved) = (Of::Resolved, Some(end));
    publications.follow([&over].into_iter(), end);
    assert_eq!(publications.get(over.id.as_str()).unwrap().stage(), Told::Monitoring);
    publications.follow([&over].into_iter(), end.plus(900));
    assert_eq!(publications.get(over.id.as_str()).unwrap().stage(), Told::Resolved);

    // Of what they do not know the rule lets them know nothing.
    let mut none = Publications::default();
    none.show(shown(Publish::Automatic { after_seconds: 0 }));
    none.follow([&shadow(&incident)].into_iter(), end);
    assert_eq!(none.get(incident.id.as_str()), None);
    none.act(
        &incident,
        vec![Act::Edit(Words { text: Some("Ours.".to_owned()), ..Words::default() })],
        "ada",
        end,
    )
    .unwrap();
    none.follow([&shadow(&incident)].into_iter(), end.plus(1));
    assert_eq!(none.get(incident.id.as_str()).unwrap().standing, Standing::Draft);
}

#[test]
fn what_somebody_has_written_is_held_for_a_month_from_then() {
    let (mut incident, _) = published();
    let id = incident.id.to_string();
    let mut publications = Publications::default();
    publications.show(shown(Publish::Draft));
    let day = |day: u64| Second(START + day * 86_400);
    let write = |publications: &mut Publications, incident: &Incident, now| {
        let words = Words { text: Some("What it was.".to_owned()), ..Words::default() };
        publications.act(incident, vec![Act::Edit(words)], "ada", now).unwrap();
    };
    // Of an incident that was over long ago.
    (incident.state, incident.resolved) = (Of::Resolved, Some(day(0)));
    write(&mut publications, &incident, day(40));
    for (now, is_held) in [(41, true), (69, true), (71, false)] {
        publications.follow([].into_iter(), day(now));
        assert_eq!(publications.get(&id).is_some(), is_held, "day {now}");
    }

    // Where there are too many, those go first that nobody has worked on.
    write(&mut publications, &incident, day(72));
    let worked_on = publications.get(&id).unwrap().clone();
    let others = (0..PUBLICATIONS_MAX).map(|number| Publication {
        id: number.to_string(),
        edited_by: None,
        changed: day(73).0,
        ..worked_on.clone()
    });
    publications.restore(others.chain([worked_on.clone()]));
    let gone = publications.follow([].into_iter(), day(73)).gone;
    assert!(gone.len() == 1 && gone[0] != id, "{gone:?}");
}

#[test]
fn the_rule_leaves_people_some_updates_and_ends_it_all_the_same() {
    let (mut incident, mut publications) = published();
    let id = incident.id.to_string();
    let mut now = Second(START + 1_000);
    for _ in 0..100 {
        now = now.plus(60);
        (incident.state, incident.resolved) = (Of::Resolved, Some(now));
        publications.follow([&incident].into_iter(), now);
        now = now.plus(60);
        (incident.state, incident.resolved) = (Of::Reopened, None);
        incident.reopened.push(now);
        publications.follow([&incident].into_iter(), now);
    }
    let it = publications.get(&id).unwrap();
    assert!(it.updates.len() <= UPDATES_MAX - 9, "{}", it.updates.len());
    assert_eq!(it.stage(), Told::Investigating, "it is lost");
    (incident.state, incident.resolved) = (Of::Resolved, Some(now));
    for (after, stage) in [(899, Told::Investigating), (900, Told::Resolved)] {
        publications.follow([&incident].into_iter(), now.plus(after));
        assert_eq!(publications.get(&id).unwrap().stage(), stage, "after {after} s");
    }
}

#[test]
fn what_was_published_of_a_service_that_is_hidden_now_is_not_shown() {
    let (_, mut publications) = published();
    for (publish, expected) in [(Publish::Hidden, 0), (Publish::Draft, 1)] {
        publications.show(shown(publish));
        assert_eq!(publications.public().count(), expected, "{publish:?}");
    }
}

#[test]
fn customers_read_nothing_that_is_not_kept_yet() {
    let mut stage = stage(Publish::Draft);
    stage.run(300, well);
    stage.run(30, tcp_lost);
    let before = stage.judgement.public_revision();
    stage.act(Act::Publish(Words::default())).unwrap();
    assert_eq!((stage.judgement.public().1, stage.judgement.public_revision()), (Vec::new(), before));
    stage.judgement.flush().unwrap();
    assert_eq!(only(stage.judgement.public().1), stage.publication());
    assert_ne!(stage.judgement.public_revision(), before);
}
