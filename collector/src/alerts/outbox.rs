//! What one Alertmanager has yet to hear.

use super::{Alert, AlertsConfig, Labels};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

/// Figures are refined once a second; an Alertmanager hears of it this often at most.
const REFINED: Duration = Duration::from_secs(10);

/// What it has heard of the alerts of the last view, and when.
#[derive(Debug)]
pub(super) struct Outbox {
    resend: Duration,
    refined: Duration,
    heard: HashMap<Labels, Heard>,
    /// When it last took anything.
    last: Option<Instant>,
}

#[derive(Debug)]
struct Heard {
    at: Instant,
    over: bool,
    annotations: BTreeMap<&'static str, String>,
}

impl Outbox {
    pub(super) fn new(config: &AlertsConfig) -> Self {
        let resend = config.resend_interval;
        Self { resend, refined: REFINED.min(resend), heard: HashMap::new(), last: None }
    }

    /// What is new or over at once, what is refined after a while, all else now and then.
    pub(super) fn due<'a>(&self, alerts: &'a [Alert], now: Instant) -> Vec<&'a Alert> {
        alerts.iter().filter(|alert| self.is_due(alert, now)).collect()
    }

    fn is_due(&self, alert: &Alert, now: Instant) -> bool {
        let Some(heard) = self.heard.get(&alert.labels) else { return true };
        let age = now.saturating_duration_since(heard.at);
        heard.over != alert.ended_at.is_some()
            || age >= self.resend
            || (age >= self.refined && heard.annotations != alert.annotations)
    }

    /// It has not been spoken to for long: even nothing is worth saying, to know that it would listen.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.resend)
    }

    /// It has taken `sent`. What is not among `alerts` any more is forgotten.
    pub(super) fn delivered(&mut self, sent: &[&Alert], alerts: &[Alert], now: Instant) {
        self.last = Some(now);
        for alert in sent {
            let heard = Heard { at: now, over: alert.ended_at.is_some(), annotations: alert.annotations.clone() };
            self.heard.insert(alert.labels.clone(), heard);
        }
        if self.heard.len() > alerts.len() {
            let current: std::collections::HashSet<&Labels> = alerts.iter().map(|alert| &alert.labels).collect();
            self.heard.retain(|labels, _| current.contains(labels));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridstep_wire::Micros;

    fn alert(node: &str, cause: &str, over: bool) -> Alert {
        let labels = Labels::from([("node".into(), node.into())]);
        let ended_at = over.then_some(Micros(2));
        Alert { labels, annotations: BTreeMap::from([("cause", cause.into())]), started_at: Micros(1), ended_at }
    }

    /// Says what is due after so many seconds, and takes it to be heard.
    fn hear(outbox: &mut Outbox, begun: Instant, seconds: u64, alerts: &[Alert]) -> usize {
        let now = begun + Duration::from_secs(seconds);
        let due = outbox.due(alerts, now);
        outbox.delivered(&due, alerts, now);
        due.len()
    }

    #[test]
    fn an_alert_is_said_when_new_refined_due_again_and_over() {
        let (mut outbox, begun) = (Outbox::new(&AlertsConfig::default()), Instant::now());
        let first = [alert("a", "unknown", false)];
        let refined = [alert("a", "thermal", false)];
        let over = [alert("a", "thermal", true)];
        let said = [(0, &first, 1), (1, &first, 0), (2, &refined, 0), (10, &refined, 1), (11, &refined, 0), (39, &refined, 0)];
        for (seconds, alerts, count) in said {
            assert_eq!(hear(&mut outbox, begun, seconds, alerts), count, "after {seconds} s");
        }
        for (seconds, alerts, count) in [(40, &refined, 1), (41, &over, 1), (42, &over, 0), (71, &over, 1), (72, &first, 1)] {
            assert_eq!(hear(&mut outbox, begun, seconds, alerts), count, "after {seconds} s");
        }
    }

    #[test]
    fn what_was_not_taken_stays_due() {
        let (mut outbox, now) = (Outbox::new(&AlertsConfig::default()), Instant::now());
        let alerts = [alert("a", "x", false), alert("b", "x", false)];
        assert_eq!(outbox.due(&alerts, now).len(), 2);
        outbox.delivered(&[&alerts[0]], &alerts, now);
        assert_eq!(outbox.due(&alerts, now), [&alerts[1]]);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let (mut outbox, begun) = (Outbox::new(&AlertsConfig::default()), Instant::now());
        hear(&mut outbox, begun, 0, &[alert("a", "x", true), alert("b", "x", true)]);
        hear(&mut outbox, begun, 1, &[]);
        assert!(outbox.heard.is_empty());
    }

    #[test]
    fn silence_is_broken_once_an_interval() {
        let (mut outbox, begun) = (Outbox::new(&AlertsConfig::default()), Instant::now());
        assert!(outbox.is_silent(begun));
        outbox.delivered(&[], &[], begun);
        assert!(!outbox.is_silent(begun + Duration::from_secs(29)));
        assert!(outbox.is_silent(begun + Duration::from_secs(30)));
    }
}
