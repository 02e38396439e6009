//! How a collector's own work goes: whether it is ready, what it takes, keeps, reads back and shows.

use std::fmt;

use aviary_collector::{JournalFigures, LiveFigures, StatusFigures};
use prometheus_client::{metrics::MetricType, registry::Unit};

use super::{Page, collector::Snapshot, count_of, signed, watched::CLASSES};

fn signed_size(number: usize) -> i64 {
    signed(number as u64)
}

impl Snapshot {
    pub(super) fn readiness(&self, page: &mut Page<'_>) -> fmt::Result {
        let it = &self.figures;
        let is_ready = it.replaying.is_none() && !it.is_shutting_down;
        let help = "Whether the collector takes reports and answers.";
        page.gauge("aviary_collector_ready", help, None, &i64::from(is_ready))?;
        let help = "How much of what was kept is taken up.";
        let replayed = it.replaying.unwrap_or(1.0);
        page.gauge("aviary_collector_replayed_ratio", help, None, &replayed)?;
        let help = "Series by what came of their newest settled second.";
        let mut family = page.family("aviary_collector_series_by_class", help, None, MetricType::Gauge)?;
        for (class, count) in CLASSES {
            family.encode_family(&[("class", class)])?.encode_gauge(&signed(count(&it.classes)))?;
        }
        Ok(())
    }

    pub(super) fn intake(&self, page: &mut Page<'_>) -> fmt::Result {
        let it = &self.figures;
        let help = "Reports by whether they were taken.";
        let mut family = page.family("aviary_collector_intake_reports", help, None, MetricType::Counter)?;
        for (result, count) in [("taken", it.counts.reports), ("refused", it.counts.refused)] {
            count_of(&mut family.encode_family(&[("result", result)])?, &count)?;
        }
        let help = "Reports that are being read and taken.";
        page.gauge("aviary_collector_intake_under_way", help, None, &signed_size(it.intake))?;
        let help = "Losses whose phase, fault and address were let go of for want of room.";
        page.counter("aviary_collector_losses_without_detail", help, it.losses_without_detail)?;
        let help = "Slots that the history could not keep.";
        page.counter("aviary_collector_history_unkept_slots", help, it.unkept)?;
        let help = "Phase timings that were not taken for want of room.";
        page.counter("aviary_collector_timings_dropped", help, it.timings_dropped)
    }

    pub(super) fn journal(&self, page: &mut Page<'_>) -> fmt::Result {
        let Some(journal) = &self.figures.journal else { return Ok(()) };
        let JournalFigures {
            frames,
            batches,
            bytes,
            waiting,
            waiting_bytes,
            waiting_peak,
            busy,
            no_room,
            ended,
            since_checkpoint,
        } = journal;
        page.counter(
            "aviary_collector_journal_frames",
            "Reports that were written to the journal.",
            *frames,
        )?;
        page.counter("aviary_collector_journal_batches", "Transactions in which they were.", *batches)?;
        let help = "Size of the reports that were written to the journal.";
        let mut written =
            page.family("aviary_collector_journal_written", help, Some(&Unit::Bytes), MetricType::Counter)?;
        count_of(&mut written, bytes)?;
        let help = "Reports that wait for the disk.";
        page.gauge("aviary_collector_journal_waiting", help, None, &signed_size(*waiting))?;
        let help = "Size of the reports that wait for the disk.";
        let size = signed_size(*waiting_bytes);
        page.gauge("aviary_collector_journal_waiting", help, Some(&Unit::Bytes), &size)?;
        let help = "The most reports that waited for the disk at once since the start.";
        page.gauge("aviary_collector_journal_waiting_peak", help, None, &signed_size(*waiting_peak))?;
        let help = "Reports that were not kept.";
        let mut family = page.family("aviary_collector_journal_refused", help, None, MetricType::Counter)?;
        for (reason, count) in [("busy", busy), ("no_room", no_room), ("ended", ended)] {
            count_of(&mut family.encode_family(&[("reason", reason)])?, count)?;
        }
        let help = "Size of the reports on the disk that no checkpoint covers yet.";
        let size = signed(*since_checkpoint);
        page.gauge("aviary_collector_journal_disk", help, Some(&Unit::Bytes), &size)
    }

    pub(super) fn store(&self, page: &mut Page<'_>) -> fmt::Result {
        let Some(store) = &self.figures.store else { return Ok(()) };
        let help = "Size of the store's file.";
        page.gauge("aviary_collector_store", help, Some(&Unit::Bytes), &signed(store.bytes))?;
        let help = "Times that the disk was asked to confirm what was written.";
        page.counter("aviary_collector_store_fsyncs", help, store.syncs.count())?;
        let help = "How long the disk took to confirm what was written; the sum is made from buckets.";
        page.timings("aviary_collector_store_fsync_duration", help, &store.syncs)
    }

    pub(super) fn read_back(&self, page: &mut Page<'_>) -> fmt::Result {
        let read_back = || {
            let services = self.figures.services.iter();
            services.filter_map(|service| Some((service.name.as_str(), service.readback.as_ref()?)))
        };
        let help = "How long ago storage gave the newest answer that could be believed.";
        let name = "aviary_collector_readback_lag";
        let mut family = page.family(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (service, lag) in
            read_back().filter_map(|(name, (figures, _))| Some((name, figures.lag_seconds?)))
        {
            family.encode_family(&[("service", service)])?.encode_gauge(&lag)?;
        }
        let help = "Whether it cannot be told what the service stored.";
        let mut family = page.family("aviary_collector_readback_untold", help, None, MetricType::Gauge)?;
        for (service, (_, is_untold)) in read_back() {
            family.encode_family(&[("service", service)])?.encode_gauge(&i64::from(*is_untold))?;
        }
        let help = "Series that are read back, by whether storage has shown them.";
        let mut family = page.family("aviary_collector_readback_series", help, None, MetricType::Gauge)?;
        for (service, (figures, _)) in read_back() {
            let hidden = figures.series.saturating_sub(figures.shown);
            for (shown, count) in [("yes", figures.shown), ("no", hidden)] {
                let labels = [("service", service), ("shown", shown)];
                family.encode_family(&labels)?.encode_gauge(&signed_size(count))?;
            }
        }
        Ok(())
    }

    pub(super) fn streams(&self, page: &mut Page<'_>) -> fmt::Result {
        let LiveFigures { views, viewers, refused } = self.figures.live;
        let help = "Answers that are being streamed.";
        let mut family = page.family("aviary_collector_streams_open", help, None, MetricType::Gauge)?;
        for (kind, count) in [("live", viewers), ("question", self.figures.questions)] {
            family.encode_family(&[("kind", kind)])?.encode_gauge(&signed_size(count))?;
        }
        let help = "Different pages that are watched.";
        page.gauge("aviary_collector_live_views", help, None, &signed_size(views))?;
        let help = "Those who were refused because too many watched.";
        page.counter("aviary_collector_live_refused", help, refused)?;
        let Some(StatusFigures { as_of, written, failures }) = self.figures.status else { return Ok(()) };
        let help = "Unix time until which the status page knows what was measured.";
        let name = "aviary_collector_status_page_timestamp";
        page.gauge(name, help, Some(&Unit::Seconds), &signed(as_of))?;
        let help = "Times that the files of the status page were written.";
        page.counter("aviary_collector_status_page_written", help, written)?;
        let help = "Times that the status page could not be made or written.";
        page.counter("aviary_collector_status_page_failures", help, failures)
    }
}
