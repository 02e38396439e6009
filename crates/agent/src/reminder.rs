//! What goes on for long, told at once and then once a minute: a log that has the same line each second has nothing else.

/// So many seconds lie between two lines.
pub(crate) const REMIND_SECONDS: u64 = 60;

/// What there is to tell of something that may happen each second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reminder {
    reports: u64,
    slots: u64,
    /// When it was told last, in seconds of a clock that may be set.
    told: Option<u64>,
}

impl Reminder {
    /// It has happened again, to so many reports and slots; where both are 0 there is nothing to tell.
    pub(crate) const fn note(&mut self, reports: u64, slots: u64) {
        self.reports = self.reports.saturating_add(reports);
        self.slots = self.slots.saturating_add(slots);
    }

    /// To how many reports and slots it has happened since it was told last, if that is to be told at the second `now`.
    pub(crate) fn due(&mut self, now: u64) -> Option<(u64, u64)> {
        let is_early = self.told.is_some_and(|told| told <= now && now - told < REMIND_SECONDS);
        if (self.reports, self.slots) == (0, 0) || is_early {
            return None;
        }
        let Self { reports, slots, .. } =
            std::mem::replace(self, Self { told: Some(now), ..Self::default() });
        Some((reports, slots))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_told_at_once_and_then_once_a_minute_with_all_of_it() {
        let mut reminder = Reminder::default();
        let mut told = Vec::new();
        for now in 1_000..1_130 {
            if now < 1_100 {
                reminder.note(1, 6);
            }
            told.extend(reminder.due(now).map(|what| (now, what)));
        }
        assert_eq!(told, [(1_000, (1, 6)), (1_060, (60, 360)), (1_120, (39, 234))]);
        reminder.note(1, 1);
        assert_eq!(reminder.due(500), Some((1, 1)), "a clock that is set back silences nothing");
        reminder.note(0, 1);
        assert_eq!((reminder.due(559), reminder.due(560)), (None, Some((0, 1))));
        reminder.note(0, 0);
        assert_eq!(reminder.due(700), None);
    }
}
