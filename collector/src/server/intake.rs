//! Threads that agents' connections live on, apart from the judging.
//!
//! A connection stays on the thread that it was given to: no batch moves between processors, and none wakes another thread that has nothing to do. Of a
//! large fleet there is always something: a thread that has done all that had come rests before it looks again, as looking costs more than taking.

use crate::ingest::Ingest;
use anyhow::{Context, Result, anyhow};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tracing::warn;

/// Connections of a thread that are accepted and not served yet.
const WAITING: usize = 64;
/// Between two looks at the connections.
const REST: Duration = Duration::from_millis(1);
/// After an attempt to accept a connection that failed, as where there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The other half of the processors is for the judging, the recorder and pages.
fn threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors / 2).max(1)
}

/// What a thread has.
struct Intake {
    connections: mpsc::Receiver<std::net::TcpStream>,
    builder: Server,
    ingest: Ingest,
    /// Streams end, and then the thread.
    stop: CancellationToken,
    /// It ends at once.
    kill: CancellationToken,
}

/// Accepts connections and gives them to the threads in turn; ends when all of these have. Dropped, they end at once.
pub(super) async fn serve(builder: Server, listener: TcpListener, ingest: Ingest, stop: CancellationToken) -> Result<()> {
    let kill = CancellationToken::new();
    let _killing = kill.clone().drop_guard();
    let (mut lanes, mut ends) = (Vec::new(), tokio::task::JoinSet::new());
    for number in 0..threads() {
        let (lane, connections) = mpsc::channel(WAITING);
        let (builder, ingest, stop, kill) = (builder.clone(), ingest.clone(), stop.clone(), kill.clone());
        let end = Intake { connections, builder, ingest, stop, kill }.start(number)?;
        ends.spawn(async move { end.await.context("a thread of agents' connections has panicked")? });
        lanes.push(lane);
    }
    let mut turn = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            ended = ends.join_next() => return ended.map_or(Ok(()), |ended| ended?),
            () = stop.cancelled() => break,
        };
        match accepted.and_then(|(connection, _)| connection.into_std()) {
            Ok(connection) => {
                turn = (turn + 1) % lanes.len();
                lanes[turn].send(connection).await.map_err(|_| anyhow!("a thread of agents' connections has ended"))?;
            }
            Err(fault) => {
                warn!(%fault, "a connection is not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop((listener, lanes));
    while let Some(ended) = ends.join_next().await {
        ended??;
    }
    Ok(())
}

impl Intake {
    /// Gives what will tell of its end.
    fn start(self, number: usize) -> Result<oneshot::Receiver<Result<()>>> {
        let (ended, end) = oneshot::channel();
        let run = move || {
            // Nobody asks where the server was killed.
            let _ = ended.send(self.run());
        };
        std::thread::Builder::new()
            .name(format!("ingest-{number}"))
            .spawn(run)
            .context("start a thread for agents' connections")?;
        Ok(end)
    }

    fn run(self) -> Result<()> {
        let Self { connections, mut builder, ingest, stop, kill } = self;
        let runtime = Builder::new_current_thread().enable_all().on_thread_park(|| std::thread::sleep(REST)).build();
        let runtime = runtime.context("start a runtime for agents' connections")?;
        runtime.block_on(async {
            let incoming = ReceiverStream::new(connections).map(TcpStream::from_std);
            let serving = builder.add_service(ingest).serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
            tokio::select! {
                served = serving => served.context("serve agents"),
                () = kill.cancelled() => Ok(()),
            }
        })
    }
}
