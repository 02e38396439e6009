//! `aviary demo`: a fleet of three regions on loopback in this process, that whoever looks on can break.
//!
//! Everything in it is what runs elsewhere: agents that probe, sinks that misbehave, a collector that judges and delivers.
//! Only the receiver is ours: it shows a page in this terminal, in the words that any receiver is sent.

mod fault;
mod fleet;
mod input;
mod pager;
mod screen;
mod show;

use std::io::Write;

use anyhow::bail;
use tokio::time::{Duration, MissedTickBehavior, interval};

use self::{
    fault::Fault,
    fleet::Fleet,
    input::{Input, Step},
    pager::Pager,
    screen::Screen,
    show::{Awaited, Show},
};
use crate::{
    ask::Whom,
    terminal::{KeyByKey, Signals},
};

/// So many of the newest closed seconds are shown in the last line, and beside a page.
const SHOWN_SECONDS: u64 = 3;

const THREADS: usize = 2;

/// Plays it until it is told to end. Returns whether a script got the pages that it had to get.
pub(crate) fn demo(out: &mut impl Write) -> anyhow::Result<bool> {
    aviary_probe::warm_up();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    let terminal = KeyByKey::on_stdin()?;
    let mut screen = Screen::new(out);
    let played = runtime.block_on(Box::pin(play(&mut screen, terminal.is_some())));
    let ended = screen.end();
    drop(terminal);
    let is_well = played?;
    ended?;
    Ok(is_well)
}

async fn play<W: Write>(screen: &mut Screen<'_, W>, is_keys: bool) -> anyhow::Result<bool> {
    let mut signals = Signals::new()?;
    let (pager, mut pages) = Pager::new()?;
    screen.say(greeting(is_keys))?;
    screen.tell(&show::starting())?;
    let fleet = tokio::select! {
        fleet = Fleet::start(pager) => fleet?,
        () = signals.end() => return Ok(is_keys),
    };
    screen.say(format_args!("The same in a browser: http://{}/", fleet.collector()))?;
    let asker = Whom::new(format!("http://{}", fleet.collector()).parse()?, None, None).asker()?;
    let mut show = Show::new(fleet, asker, screen);
    let mut inputs = input::read(is_keys)?;
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let is_interrupted = loop {
        tokio::select! {
            Some(sheet) = pages.recv() => show.page(sheet).await?,
            input = inputs.recv(), if show.is_free() => match input {
                Some(Input::Step(Step::Quit)) => break false,
                Some(Input::Step(step)) => show.step(step).await?,
                Some(Input::Wrong(word)) => bail!(
                    "`{word}` means nothing here: a script is made of the keys u, r, a, n, m, e and q, of `wait`, and of \
                     pauses such as 20s"
                ),
                Some(Input::End) | None if is_keys || show.is_settled() => break false,
                Some(Input::End) | None => show.wait(Awaited::Pages),
            },
            _ = ticks.tick() => show.second().await?,
            () = signals.end() => break true,
        }
    };
    let (fleet, amiss) = show.end();
    if is_keys || is_interrupted {
        // Whoever is at the terminal waits for nothing more.
        drop(fleet);
        return Ok(is_keys);
    }
    fleet.stop().await;
    for what in &amiss {
        screen.say(format_args!("Amiss: {what}"))?;
    }
    if amiss.is_empty() {
        screen
            .say("Every fault gave its page, with the extent that was broken, and nothing else was told.")?;
    }
    Ok(amiss.is_empty())
}

fn greeting(is_keys: bool) -> String {
    let mut lines = vec![
        "Three agents, in eu, us and ap, probe two services each second, all on loopback.".to_owned(),
        format!(
            "The last line: delivered/scheduled in the newest {SHOWN_SECONDS} closed seconds, by region and by protocol;\n\
             ! something was lost, ? something is not known."
        ),
    ];
    if is_keys {
        lines.push(String::new());
        lines.extend(Fault::ALL.map(|fault| format!("  {}  {}; again: mended", fault.key(), fault.words())));
        lines.push("  m  all is mended     e  why the last page     q  the end".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}
