//! `gridstep-fleet`: the load of a whole cluster on one collector, over real gRPC.
//!
//! Each node is a connection and a stream of its own that speaks as an agent does: power at 10 Hz and 30 further metrics at 1 Hz of each
//! GPU, a batch every 250 ms, kept until it is durable and sent again after a reconnect. What is sent is made up as it is needed; no driver
//! and no agent runs.

mod ledger;
mod node;
mod numbering;
mod remote;
mod stream;
mod tally;

use clap::Parser;
use ledger::Ledger;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tally::Tally;

#[derive(Parser, Debug, Clone)]
#[command(version, about = "Loads a collector with the streams of a whole fleet of simulated nodes")]
pub(crate) struct Arguments {
    /// Where the collector listens for agents.
    #[arg(long, default_value = "http://127.0.0.1:19812")]
    pub(crate) collector: String,
    /// Streams; each is a node of its own.
    #[arg(long, default_value_t = 256)]
    pub(crate) nodes: u32,
    /// Number of the first node: fleets of several processes are one.
    #[arg(long, default_value_t = 0)]
    pub(crate) first: u32,
    /// Writes down what the collector has called durable.
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: Option<PathBuf>,
    /// Sends the same by Prometheus remote write to this URL in place of a collector.
    #[arg(long)]
    pub(crate) remote_write: Option<String>,
    /// GPUs of each node, 1 to 16.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) gpus: u32,
    /// Ends by itself after so long; without it, at SIGINT.
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// Readings of power a second, of each GPU.
    #[arg(long, default_value_t = 10)]
    pub(crate) power_hertz: u32,
    /// Further metrics, once a second, of each GPU.
    #[arg(long, default_value_t = 30)]
    pub(crate) metrics: usize,
    /// A batch leaves each node so often, milliseconds.
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(50..=10_000))]
    pub(crate) batch_milliseconds: u32,
    /// All GPUs change to another level, between 400 and 650 W, at every multiple of so many seconds of UTC. 0: never.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) step_every: f64,
    /// Share of the nodes whose batches are always two seconds late.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) late: f64,
    /// Share of the nodes that drop their connection in any second.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) flap: f64,
    /// Says so often how it stands, seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tell_every: u32,
    /// A node that was away for longer sends what it kept beside what is new, seconds; as agents do, after 30. 0: before it, in order.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) backlog_after: f64,
    /// Batches kept by a node that are not durable yet; older ones are lost, and counted.
    #[arg(long, default_value_t = 4800)]
    pub(crate) keep: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    allow_files()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(Arc::new(arguments)))
}

async fn run(arguments: Arc<Arguments>) -> anyhow::Result<()> {
    let tally = Arc::new(Tally::default());
    match &arguments.remote_write {
        Some(url) => (0..arguments.nodes).step_by(remote::NODES as usize).for_each(|first| {
            tokio::spawn(remote::nodes(first, url.clone(), arguments.clone(), tally.clone()));
        }),
        None => {
            let ledger = arguments.ledger.as_deref().map(Ledger::open).transpose()?.map(Arc::new);
            (arguments.first..arguments.first + arguments.nodes).for_each(|index| {
                tokio::spawn(stream::node(index, arguments.clone(), tally.clone(), ledger.clone()));
            });
        }
    }
    let end = async {
        match arguments.seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs_f64(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = tally.tell(Duration::from_secs(arguments.tell_every.into())) => {}
        () = end => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    println!("{}", serde_json::to_string(&tally.counts())?);
    Ok(())
}

/// A connection each takes more files than a shell usually grants.
fn allow_files() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}
