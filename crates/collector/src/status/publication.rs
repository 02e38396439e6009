//! What the public is told of an incident: a draft, then what a person or a rule published, with its updates.
//!
//! Pure: a value and the steps that it may take. Nothing that was public is ever taken away in silence: what is withdrawn says
//! so, and why.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The longest title, in characters.
pub(crate) const TITLE_CHARACTERS_MAX: usize = 200;

/// The longest text of an update, in characters.
pub(crate) const TEXT_CHARACTERS_MAX: usize = 4_000;

/// So many updates has one incident at most, beside those that end it.
pub(crate) const UPDATES_MAX: usize = 50;

macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal, $said:literal;)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub(crate) enum $name { $($(#[$of])* $variant),+ }

        impl $name {
            /// As programs have it.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// As people read it.
            pub(crate) const fn said(self) -> &'static str {
                match self { $(Self::$variant => $said),+ }
            }
        }
    };
}

words! {
    /// How far people are with an incident.
    Stage {
        /// It is there, and somebody looks for its cause.
        Investigating = "investigating", "Investigating";
        /// Its cause is known.
        Identified = "identified", "Identified";
        /// It seems over, and is watched.
        Monitoring = "monitoring", "Monitoring";
        /// It is over.
        Resolved = "resolved", "Resolved";
        /// What was learnt of it is written down.
        Postmortem = "postmortem", "Post-mortem";
    }
}

impl Stage {
    pub(crate) const ALL: [Self; 5] =
        [Self::Investigating, Self::Identified, Self::Monitoring, Self::Resolved, Self::Postmortem];
}

words! {
    /// How much an incident matters to customers; from the least.
    Impact {
        /// Not at all.
        None = "none", "No impact";
        /// A little.
        Minor = "minor", "Minor impact";
        /// Much.
        Major = "major", "Major impact";
        /// All.
        Critical = "critical", "Critical impact";
    }
}

impl Impact {
    pub(crate) const ALL: [Self; 4] = [Self::None, Self::Minor, Self::Major, Self::Critical];
}

words! {
    /// How a component does; from the best.
    Status {
        /// Nothing is wrong.
        Operational = "operational", "Operational";
        /// What is wrong was announced.
        UnderMaintenance = "under_maintenance", "Under maintenance";
        /// Little is lost.
        DegradedPerformance = "degraded_performance", "Degraded performance";
        /// Much is lost, or in some places.
        PartialOutage = "partial_outage", "Partial outage";
        /// Half or more is lost, nearly everywhere.
        MajorOutage = "major_outage", "Major outage";
    }
}

/// Who may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// Whoever may look at the operator's page.
    Draft,
    /// Everybody.
    Published,
    /// Everybody reads that it was withdrawn, and why.
    Withdrawn,
}

impl Standing {
    /// As people read it.
    pub(crate) const fn said(self) -> &'static str {
        match self {
            Self::Draft => "Draft",
            Self::Published => "Published",
            Self::Withdrawn => "Withdrawn",
        }
    }
}

/// One thing that was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Update {
    /// When, in epoch seconds.
    pub(crate) at: u64,
    /// When its text was last changed since.
    pub(crate) edited: Option<u64>,
    /// How far people were.
    pub(crate) stage: Stage,
    pub(crate) text: String,
    /// Who said it; nobody, where a rule did. Never shown to customers.
    pub(crate) by: Option<String>,
    /// How the services did then.
    pub(crate) services: BTreeMap<String, Status>,
}

/// What the public is told of one incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Publication {
    /// The incident's id, and its own.
    pub(crate) id: String,
    pub(crate) standing: Standing,
    pub(crate) title: String,
    /// What is said first.
    pub(crate) text: String,
    pub(crate) impact: Impact,
    /// The services that it touches, of those that are shown.
    pub(crate) services: BTreeSet<String>,
    /// When it began, in epoch seconds.
    pub(crate) since: u64,
    /// When it was drafted.
    pub(crate) drafted: u64,
    /// When it was published last.
    pub(crate) published: Option<u64>,
    /// When anything of it changed last.
    pub(crate) changed: u64,
    /// Since when nothing is lost any more.
    pub(crate) over: Option<u64>,
    /// Who changed its words; nobody: they follow what is measured.
    pub(crate) edited_by: Option<String>,
    /// What was said, oldest first.
    pub(crate) updates: Vec<Update>,
    /// From which of them on customers read it: what was withdrawn stays so when it is published again.
    #[serde(default)]
    pub(crate) public_from: usize,
}

/// Words to be told: those that are left out stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) title: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) impact: Option<Impact>,
}

impl Words {
    fn check(&self) -> Result<(), Refusal> {
        if self.title.as_ref().is_some_and(|title| !is_title(title)) {
            return Err(Refusal::Title);
        }
        if self.text.as_ref().is_some_and(|text| !is_text(text)) {
            return Err(Refusal::Text);
        }
        Ok(())
    }
}

/// What a person has done to a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Other words: of what is public the newest update's, and of a draft what will be said first.
    Edit(Words),
    /// Everybody may read it, in these words where some are given.
    Publish(Words),
    /// There is something to add.
    Update {
        /// How far people are; as before, where it is not said.
        stage: Option<Stage>,
        text: String,
    },
    /// What was learnt.
    PostMortem(String),
    /// It should not have been public, for this reason.
    Withdraw(String),
}

/// Why something cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("it is a draft: publish it first, or edit its words")]
    Draft,
    #[error("it is public already: add an update, or edit its words")]
    Public,
    #[error("it was withdrawn: publish it again first, in other words where they are needed")]
    Withdrawn,
    #[error("it is not resolved: add an update that says `resolved`, and then the post-mortem")]
    Unresolved,
    #[error("a post-mortem is written with `post-mortem`, once the incident is resolved")]
    NoStage,
    #[error("it has {UPDATES_MAX} updates, which is the limit: edit the newest, resolve it or withdraw it")]
    Full,
    #[error("there is nothing to change: give a title, a text or an impact")]
    Nothing,
    #[error("a title has 1 to {TITLE_CHARACTERS_MAX} characters, and no line break")]
    Title,
    #[error("a text has 1 to {TEXT_CHARACTERS_MAX} characters, and of control characters only line breaks")]
    Text,
}

impl Publication {
    /// How far people are.
    pub(crate) fn stage(&self) -> Stage {
        self.updates.last().map_or(Stage::Investigating, |update| update.stage)
    }

    /// Whether customers see that it goes on.
    pub(crate) fn is_unresolved(&self) -> bool {
        self.standing == Standing::Published && self.stage() < Stage::Resolved
    }

    /// How the whole does at best while customers are told of this; nothing once it only is watched.
    pub(crate) fn at_best(&self) -> Option<Status> {
        let goes_on = self.is_unresolved() && self.stage() < Stage::Monitoring;
        match self.impact {
            _ if !goes_on => None,
            Impact::None => None,
            Impact::Minor => Some(Status::DegradedPerformance),
            Impact::Major => Some(Status::PartialOutage),
            Impact::Critical => Some(Status::MajorOutage),
        }
    }

    /// When the first update of this stage since it was last unresolved was told.
    pub(crate) fn reached(&self, stage: Stage) -> Option<u64> {
        let back = self.updates.iter().rposition(|update| update.stage < stage).map_or(0, |last| last + 1);
        self.updates.get(back..)?.iter().find(|update| update.stage == stage).map(|update| update.at)
    }

    /// Takes a step at `now`. Without `by`, a rule does.
    ///
    /// # Errors
    /// Nothing has changed then.
    pub(crate) fn act(
        &mut self,
        act: Act,
        by: Option<&str>,
        services: &BTreeMap<String, Status>,
        now: u64,
    ) -> Result<(), Refusal> {
        match act {
            Act::Edit(words) => {
                // Everybody reads the title of what was withdrawn.
                if self.standing == Standing::Withdrawn {
                    return Err(Refusal::Withdrawn);
                }
                if words == Words::default() {
                    return Err(Refusal::Nothing);
                }
                words.check()?;
                self.edit(words, by, now);
            }
            Act::Publish(words) => {
                if self.standing == Standing::Published {
                    return Err(Refusal::Public);
                }
                words.check()?;
                let text = words.text.clone().unwrap_or_else(|| self.text.clone());
                // Of what was withdrawn they go on reading why.
                let public_from = self.updates.len().saturating_sub(1);
                self.check_room(Stage::Investigating)?;
                self.say(Stage::Investigating, text, by, services, now)?;
                self.public_from = public_from;
                if words != Words::default() {
                    self.edit(words, by, now);
                }
                (self.standing, self.published) = (Standing::Published, Some(now));
            }
            Act::Update { stage: Some(Stage::Postmortem), .. } => return Err(Refusal::NoStage),
            Act::Update { stage, text } => {
                self.check_public()?;
                let stage = stage.unwrap_or_else(|| self.stage().min(Stage::Resolved));
                self.check_room(stage)?;
                self.say(stage, text, by, services, now)?;
            }
            Act::PostMortem(text) => {
                self.check_public()?;
                if self.is_unresolved() {
                    return Err(Refusal::Unresolved);
                }
                self.check_room(Stage::Postmortem)?;
                self.say(Stage::Postmortem, text, by, services, now)?;
            }
            Act::Withdraw(text) => {
                self.check_public()?;
                self.say(Stage::Resolved, text, by, services, now)?;
                self.standing = Standing::Withdrawn;
            }
        }
        self.changed = now;
        Ok(())
    }

    fn edit(&mut self, Words { title, text, impact }: Words, by: Option<&str>, now: u64) {
        self.title = title.unwrap_or_else(|| std::mem::take(&mut self.title));
        self.impact = impact.unwrap_or(self.impact);
        if let Some(text) = text {
            match self.updates.last_mut().filter(|_| self.standing == Standing::Published) {
                Some(newest) => (newest.text, newest.edited) = (text, Some(now)),
                None => self.text = text,
            }
        }
        self.edited_by = by.map(str::to_owned);
    }

    fn say(
        &mut self,
        stage: Stage,
        text: String,
        by: Option<&str>,
        services: &BTreeMap<String, Status>,
        at: u64,
    ) -> Result<(), Refusal> {
        if !is_text(&text) {
            return Err(Refusal::Text);
        }
        let of = |name: &String| (name.clone(), services.get(name).copied().unwrap_or(Status::Operational));
        let services = self.services.iter().map(of).collect();
        self.updates.push(Update { at, edited: None, stage, text, by: by.map(str::to_owned), services });
        Ok(())
    }

    /// Looks whether there is room for one more update: there always is for what ends it, which is said once.
    fn check_room(&self, stage: Stage) -> Result<(), Refusal> {
        let is_end = stage >= Stage::Resolved && stage > self.stage();
        if is_end || self.updates.len() < UPDATES_MAX { Ok(()) } else { Err(Refusal::Full) }
    }

    fn check_public(&self) -> Result<(), Refusal> {
        match self.standing {
            Standing::Draft => Err(Refusal::Draft),
            Standing::Withdrawn => Err(Refusal::Withdrawn),
            Standing::Published => Ok(()),
        }
    }
}

fn is_title(text: &str) -> bool {
    is_text(text) && !text.contains('\n') && text.chars().count() <= TITLE_CHARACTERS_MAX
}

/// Neither HTML nor XML can hold other control characters.
fn is_text(text: &str) -> bool {
    let is_good = |char: char| {
        char == '\n' || char == '\r' || !(char.is_control() || matches!(char, '\u{fffe}' | '\u{ffff}'))
    };
    !text.trim().is_empty() && text.chars().count() <= TEXT_CHARACTERS_MAX && text.chars().all(is_good)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draft() -> Publication {
        Publication {
            id: "01A".to_owned(),
            standing: Standing::Draft,
            title: "Ingest loses data".to_owned(),
            text: "We look into it.".to_owned(),
            impact: Impact::Major,
            services: ["ingest".to_owned()].into(),
            since: 100,
            drafted: 110,
            published: None,
            changed: 110,
            over: None,
            edited_by: None,
            updates: Vec::new(),
            public_from: 0,
        }
    }

    fn take(publication: &mut Publication, act: Act, now: u64) -> Result<(), Refusal> {
        let services =
            [("ingest".to_owned(), Status::PartialOutage), ("other".to_owned(), Status::MajorOutage)];
        publication.act(act, Some("ada"), &services.into(), now)
    }

    fn update(stage: impl Into<Option<Stage>>, text: &str) -> Act {
        Act::Update { stage: stage.into(), text: text.to_owned() }
    }

    #[test]
    fn while_customers_are_told_of_trouble_not_everything_is_well() {
        let mut it = draft();
        assert_eq!(it.at_best(), None, "nobody reads a draft");
        take(&mut it, Act::Publish(Words::default()), 130).unwrap();
        assert_eq!(it.at_best(), Some(Status::PartialOutage));
        for (stage, expected) in [
            (Stage::Monitoring, None),
            (Stage::Investigating, Some(Status::PartialOutage)),
            (Stage::Resolved, None),
        ] {
            take(&mut it, update(stage, "x"), 140).unwrap();
            assert_eq!(it.at_best(), expected, "{stage:?}");
        }
    }

    #[test]
    fn a_draft_is_edited_published_brought_up_to_date_and_looked_back_at() {
        let mut it = draft();
        assert_eq!(take(&mut it, update(Stage::Identified, "x"), 120), Err(Refusal::Draft));
        let words = Words { title: Some("Ingest loses UDP".to_owned()), ..Words::default() };
        take(&mut it, Act::Edit(words), 120).unwrap();
        take(&mut it, Act::Publish(Words::default()), 130).unwrap();
        assert_eq!(take(&mut it, Act::Publish(Words::default()), 131), Err(Refusal::Public));
        assert_eq!(take(&mut it, Act::PostMortem("x".to_owned()), 132), Err(Refusal::Unresolved));
        assert_eq!(take(&mut it, update(Stage::Postmortem, "x"), 132), Err(Refusal::NoStage));
        take(&mut it, update(Stage::Identified, "A switch."), 140).unwrap();
        take(&mut it, update(None, "The switch is replaced."), 150).unwrap();
        let words = Words { text: Some("The switch was replaced.".to_owned()), ..Words::default() };
        take(&mut it, Act::Edit(words), 155).unwrap();
        take(&mut it, update(Stage::Resolved, "All is well."), 160).unwrap();
        assert!(!it.is_unresolved());
        take(&mut it, Act::PostMortem("It was old.".to_owned()), 170).unwrap();
        let said: Vec<_> =
            it.updates.iter().map(|it| (it.at, it.edited, it.stage.name(), it.text.as_str())).collect();
        assert_eq!(
            said,
            [
                (130, None, "investigating", "We look into it."),
                (140, None, "identified", "A switch."),
                (150, Some(155), "identified", "The switch was replaced."),
                (160, None, "resolved", "All is well."),
                (170, None, "postmortem", "It was old."),
            ]
        );
        assert_eq!(it.updates[0].services, [("ingest".to_owned(), Status::PartialOutage)].into());
        assert_eq!((it.title.as_str(), it.published, it.changed), ("Ingest loses UDP", Some(130), 170));
        assert_eq!((it.reached(Stage::Resolved), it.reached(Stage::Monitoring)), (Some(160), None));
        // It came back: what it had reached is reached no more.
        take(&mut it, update(Stage::Investigating, "Again."), 180).unwrap();
        assert_eq!((it.is_unresolved(), it.reached(Stage::Resolved)), (true, None));
    }

    #[test]
    fn what_was_public_says_that_it_was_withdrawn_and_why() {
        let mut it = draft();
        assert_eq!(take(&mut it, Act::Withdraw("x".to_owned()), 120), Err(Refusal::Draft));
        take(&mut it, Act::Publish(Words::default()), 130).unwrap();
        take(&mut it, Act::Withdraw("Our own network was to blame.".to_owned()), 140).unwrap();
        assert_eq!((it.standing, it.updates.len()), (Standing::Withdrawn, 2));
        assert_eq!(take(&mut it, update(None, "x"), 150), Err(Refusal::Withdrawn));
        let words = Words {
            title: Some("Ingest loses UDP".to_owned()),
            text: Some("It was not our network.".to_owned()),
            impact: None,
        };
        // Everybody reads its title still.
        let before = it.clone();
        assert_eq!(take(&mut it, Act::Edit(words.clone()), 155), Err(Refusal::Withdrawn));
        let wrong = Words { title: Some(String::new()), ..words.clone() };
        assert_eq!(take(&mut it, Act::Publish(wrong), 156), Err(Refusal::Title));
        assert_eq!(it, before);
        take(&mut it, Act::Publish(words), 160).unwrap();
        assert_eq!((it.title.as_str(), it.edited_by.as_deref()), ("Ingest loses UDP", Some("ada")));
        assert!(it.is_unresolved());
        let said: Vec<&str> = it.updates.iter().map(|it| it.text.as_str()).collect();
        assert_eq!(said, ["We look into it.", "Our own network was to blame.", "It was not our network."]);
        let read = |it: &Publication| -> Vec<String> {
            it.public_updates().into_iter().map(|(_, update)| update.text.clone()).collect()
        };
        assert_eq!(read(&it), said[1..], "what was withdrawn stays so");
        take(&mut it, Act::Withdraw("It was, after all.".to_owned()), 170).unwrap();
        assert_eq!(read(&it), ["It was, after all."]);
        take(&mut it, Act::Publish(Words::default()), 180).unwrap();
        assert_eq!(read(&it), ["It was, after all.", "It was not our network."]);
    }

    #[test]
    fn words_are_bounded_and_fit_for_a_feed() {
        let edit = |title: &str, text: &str| {
            let given = |it: &str| (it != "-").then(|| it.to_owned());
            let mut it = draft();
            take(&mut it, Act::Edit(Words { title: given(title), text: given(text), impact: None }), 120)
        };
        assert_eq!(edit("-", "-"), Err(Refusal::Nothing));
        for title in ["", " ", "a\nb", &"x".repeat(TITLE_CHARACTERS_MAX + 1), "a\u{1}b"] {
            assert_eq!(edit(title, "-"), Err(Refusal::Title), "{title:?}");
        }
        for text in ["", "\n", "a\u{c}b", "\u{ffff}", &"é".repeat(TEXT_CHARACTERS_MAX + 1)] {
            assert_eq!(edit("-", text), Err(Refusal::Text), "{text:?}");
        }
        assert_eq!(edit("-", &format!("a\n{}", "é".repeat(TEXT_CHARACTERS_MAX - 2))), Ok(()));
        let mut it = draft();
        take(&mut it, Act::Publish(Words::default()), 130).unwrap();
        for number in 1..UPDATES_MAX as u64 {
            take(&mut it, update(None, "more"), 130 + number).unwrap();
        }
        assert_eq!(take(&mut it, update(None, "more"), 999), Err(Refusal::Full));
        assert_eq!(it.changed, 130 + UPDATES_MAX as u64 - 1);
    }

    #[test]
    fn what_is_full_can_be_ended_once_and_withdrawn() {
        let mut it = draft();
        take(&mut it, Act::Publish(Words::default()), 130).unwrap();
        while it.updates.len() < UPDATES_MAX {
            take(&mut it, update(None, "more"), 140).unwrap();
        }
        let learnt = || Act::PostMortem("learnt".to_owned());
        let steps = [
            (update(Stage::Monitoring, "x"), Err(Refusal::Full)),
            (update(Stage::Resolved, "x"), Ok(())),
            (update(Stage::Resolved, "x"), Err(Refusal::Full)),
            (update(Stage::Investigating, "x"), Err(Refusal::Full)),
            (learnt(), Ok(())),
            (learnt(), Err(Refusal::Full)),
            (update(Stage::Resolved, "x"), Err(Refusal::Full)),
            (Act::Withdraw("wrong".to_owned()), Ok(())),
            (Act::Publish(Words::default()), Err(Refusal::Full)),
        ];
        for (act, expected) in steps {
            assert_eq!(take(&mut it, act.clone(), 150), expected, "{act:?}");
        }
        assert_eq!(it.updates.len(), UPDATES_MAX + 3);
    }

    proptest! {
        /// Whatever people do in whatever order: what was said stays, and what is refused changes nothing.
        #[test]
        fn nothing_that_was_said_goes_away(acts in prop::collection::vec((0u8..6, 0usize..5), 0..40)) {
            let mut it = draft();
            for (now, (act, stage)) in (200..).zip(acts) {
                let act = match act {
                    0 => Act::Edit(Words { text: Some(format!("edited {now}")), ..Words::default() }),
                    1 => Act::Publish(Words::default()),
                    2 => Act::PostMortem("learnt".to_owned()),
                    3 => Act::Withdraw("wrong".to_owned()),
                    _ => update(Stage::ALL[stage], "more"),
                };
                let (before, is_edit) = (it.clone(), matches!(act, Act::Edit(_)));
                match take(&mut it, act, now) {
                    Err(_) => prop_assert_eq!(&it, &before),
                    Ok(()) => {
                        let said = before.updates.len();
                        prop_assert_eq!(it.updates.len(), said + usize::from(!is_edit));
                        let kept = if is_edit && said > 0 { said - 1 } else { said };
                        prop_assert_eq!(&it.updates[..kept], &before.updates[..kept]);
                    }
                }
                prop_assert_eq!(it.standing == Standing::Draft, it.updates.is_empty());
                let bytes = serde_json::to_vec(&it).unwrap();
                prop_assert_eq!(&serde_json::from_slice::<Publication>(&bytes).unwrap(), &it);
            }
        }
    }
}
