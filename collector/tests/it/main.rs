//! The collector from outside: real listeners on free ports, a client that speaks as an agent does, the API over HTTP.

mod agent;
mod alerts;
mod backlog;
mod checkpoint;
mod collector;
mod commands;
mod judge;
mod malformed;
mod onset;
mod otherhand;
mod recorder;
mod recording;
mod report;
mod scenarios;
mod store;
mod stragglers;
mod stream;
mod swings;
mod tls;
