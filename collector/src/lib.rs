//! agent ═══▶ ingest ─▶ align ─┬▶ power, stragglers, faults ─▶ incidents ─▶ web, alerts, store
//!            replay ─────────┘
//!
//! **The collector**: takes what the agents send (or a recording holds), and judges it. Everything from [`align`] to
//! [`incidents`] is pure: a function of samples and their times of arrival, the same live and in a replay ([`judge`]).

pub mod alerts;
pub mod align;
pub mod cli;
pub mod config;
pub mod fleet;
pub mod incidents;
pub mod ingest;
pub mod judge;
mod live;
mod metrics;
mod packed;
pub mod past;
pub mod power;
pub mod recorder;
pub mod replay;
pub mod report;
pub mod server;
mod service;
mod state;
pub mod store;
pub mod stragglers;
pub mod topology;
mod trust;
mod web;
