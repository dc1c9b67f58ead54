//! The Unix socket by which `dev restart` talks to the running `dev`: a line of JSON each way.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::file_failure;
use super::layout::Layout;
use crate::api::{ShortPath, bind_socket};
use crate::cli::{Exit, Failure};

/// No line is longer, in bytes.
const LINE_MAX: u64 = 64 << 10;

/// In which a request must have arrived.
const REQUEST_TIME: Duration = Duration::from_secs(2);

/// In which a node should have stopped, started and caught up.
const ANSWER_TIME: Duration = Duration::from_mins(3);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    restart: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    Pid(u32),
    Error(String),
}

/// A wish, and where its answer goes.
pub(super) struct Restart {
    pub name: String,
    pub reply: oneshot::Sender<Result<u32, Failure>>,
}

/// Begins to listen; wishes come through the channel, which ends with the receiver.
pub(super) fn listen(layout: &Layout) -> Result<mpsc::Receiver<Restart>, Failure> {
    let path = layout.control_socket();
    let listener = bind_socket(&path, None)
        .and_then(UnixListener::from_std)
        .map_err(|error| file_failure("listen on", &path, &error))?;
    let (wishes, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = wishes.closed() => return,
                accepted = listener.accept() => {
                    if let Ok((stream, _)) = accepted {
                        tokio::spawn(serve(stream, wishes.clone()));
                    } else {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        }
    });
    Ok(receiver)
}

async fn serve(mut stream: UnixStream, wishes: mpsc::Sender<Restart>) {
    let reply = match answer(&mut stream, wishes).await {
        Ok(pid) => Reply::Pid(pid),
        Err(why) => Reply::Error(why),
    };
    if let Ok(line) = serde_json::to_string(&reply) {
        // Whoever asked may have gone.
        let _ = stream.write_all((line + "\n").as_bytes()).await;
    }
}

async fn answer(stream: &mut UnixStream, wishes: mpsc::Sender<Restart>) -> Result<u32, String> {
    let line = tokio::time::timeout(REQUEST_TIME, read_line(stream))
        .await
        .map_err(|_| "no request arrived".to_owned())?
        .map_err(|error| error.to_string())?;
    let request: Request = serde_json::from_str(&line).map_err(|error| error.to_string())?;
    let (reply, done) = oneshot::channel();
    let stopping = || "litefs-py dev is stopping".to_owned();
    wishes.send(Restart { name: request.restart, reply }).await.map_err(|_| stopping())?;
    done.await.map_err(|_| stopping())?.map_err(|failure| failure.message)
}

async fn read_line(stream: &mut UnixStream) -> std::io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(LINE_MAX)).read_line(&mut line).await?;
    Ok(line)
}

/// Asks the `dev` that runs in the folder to start a node again; answers its process.
pub(super) async fn ask_restart(layout: &Layout, name: &str) -> Result<u32, Failure> {
    let path = layout.control_socket();
    let failed = |error: &dyn std::fmt::Display| {
        let why = format!("no litefs-py dev runs in {}: {error}", layout.dir().display());
        Failure::new(Exit::Unavailable, why)
    };
    let short = ShortPath::of(&path).map_err(|error| failed(&error))?;
    let mut stream = UnixStream::connect(short.as_path()).await.map_err(|error| failed(&error))?;
    let exchange = async {
        let request = serde_json::to_string(&Request { restart: name.to_owned() })?;
        stream.write_all((request + "\n").as_bytes()).await?;
        read_line(&mut stream).await
    };
    let line = tokio::time::timeout(ANSWER_TIME, exchange)
        .await
        .map_err(|_| {
            Failure::new(Exit::TryAgain, format!("{name} is not back after {ANSWER_TIME:?}"))
        })?
        .map_err(|error| failed(&error))?;
    match serde_json::from_str(&line).map_err(|error| failed(&error))? {
        Reply::Pid(pid) => Ok(pid),
        Reply::Error(why) => Err(Failure::new(Exit::Unavailable, why)),
    }
}
