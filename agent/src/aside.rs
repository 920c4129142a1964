//! A thread for one kind of question whose answer may take long or never come: a file of sysfs that waits for firmware, a process whose
//! memory is locked.
//!
//! It has one question at a time and is not asked again before it has answered. So what hangs stalls nothing but its own kind, and
//! costs one thread, however long it hangs.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// An answer that takes longer is said not to come.
const PATIENCE: Duration = Duration::from_secs(5);
const STACK_BYTES: usize = 256 << 10;

/// The thread ends when this is dropped, or when it has answered.
#[derive(Debug)]
pub(crate) struct Aside<Q, A> {
    /// What it is asked for, as the log names it.
    subject: &'static str,
    questions: SyncSender<Q>,
    answers: Receiver<A>,
    asked: Option<Instant>,
    said: bool,
}

impl<Q: Send + 'static, A: Send + 'static> Aside<Q, A> {
    pub(crate) fn new(subject: &'static str, mut answer: impl FnMut(Q) -> A + Send + 'static) -> io::Result<Self> {
        let (questions, asked) = sync_channel::<Q>(1);
        let (answered, answers) = sync_channel(1);
        let work = move || {
            while let Ok(question) = asked.recv() {
                if answered.send(answer(question)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name(subject.into()).stack_size(STACK_BYTES).spawn(work)?;
        Ok(Self { subject, questions, answers, asked: None, said: false })
    }

    /// It has answered everything.
    pub(crate) fn is_free(&self) -> bool {
        self.asked.is_none()
    }

    /// Asks it, unless it has not answered the question before.
    pub(crate) fn ask(&mut self, question: Q, now: Instant) {
        if self.is_free() && self.questions.try_send(question).is_ok() {
            self.asked = Some(now);
        }
    }

    /// Its answer, if there is one now.
    pub(crate) fn answer(&mut self) -> Option<A> {
        let answer = self.answers.try_recv().ok()?;
        self.asked = None;
        if std::mem::take(&mut self.said) {
            tracing::info!(subject = self.subject, "is read again");
        }
        Some(answer)
    }

    /// Its answer is overdue: said once.
    pub(crate) fn hangs(&mut self, now: Instant) -> bool {
        let hangs = self.asked.is_some_and(|asked| now.duration_since(asked) > PATIENCE);
        if hangs && !std::mem::replace(&mut self.said, true) {
            tracing::warn!(subject = self.subject, "reading it hangs; everything else goes on");
        }
        hangs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    fn answer(aside: &mut Aside<u32, u32>) -> u32 {
        let begun = Instant::now();
        loop {
            if let Some(answer) = aside.answer() {
                return answer;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "no answer");
            thread::yield_now();
        }
    }

    #[test]
    fn what_hangs_is_asked_nothing_more_until_it_answers() {
        let (release, held) = channel::<()>();
        let mut aside = Aside::new("a test", move |question: u32| {
            let _ = held.recv();
            question + 1
        })
        .unwrap();
        let start = Instant::now();
        aside.ask(1, start);
        aside.ask(5, start);
        assert!(!aside.is_free() && aside.answer().is_none());
        assert!(!aside.hangs(start + Duration::from_secs(1)));
        assert!(aside.hangs(start + Duration::from_secs(6)));
        release.send(()).unwrap();
        assert_eq!(answer(&mut aside), 2);
        assert!(aside.is_free() && !aside.hangs(start + Duration::from_secs(60)));
        release.send(()).unwrap();
        aside.ask(7, start);
        assert_eq!(answer(&mut aside), 8);
    }
}
