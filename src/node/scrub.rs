//! Reads all databases of this node from time to time, names the pages that the disk changed, and mends them
//! with what the other nodes have; as well those that an application's reads come upon.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::membership::Membership;
use super::service::PAGE;
use crate::core::{DatabaseName, Incarnation};

/// After each MiB, so that a scheduled reading takes a small part of the disk: some 100 MB a second at most.
const PAUSE: Duration = Duration::from_millis(5);
/// For another node to give a page.
const ANSWER: Duration = Duration::from_secs(12);

/// Asks for a page.
#[derive(Debug, Serialize, Deserialize)]
pub struct Wanted {
    pub name: DatabaseName,
    pub incarnation: Incarnation,
    pub pgno: u32,
}

/// Every `interval`, until the node ends; zero: never.
pub async fn on_schedule(membership: Arc<Membership>, interval: Duration) {
    if interval.is_zero() {
        return;
    }
    loop {
        tokio::time::sleep(interval).await;
        for database in membership.databases.all() {
            scrub(&membership, database.name.clone(), PAUSE).await;
        }
    }
}

/// Reads one database now, and mends what is rotten.
pub async fn scrub(membership: &Arc<Membership>, name: DatabaseName, pause: Duration) {
    let (databases, read) = (Arc::clone(&membership.databases), name.clone());
    let work = move || databases.scrub(&read, &|| std::thread::sleep(pause));
    let (incarnation, scrubbed) = match tokio::task::spawn_blocking(work).await {
        Ok(Ok(Some(scrubbed))) => scrubbed,
        Ok(Ok(None)) => return,
        Ok(Err(error)) => {
            return tracing::warn!(database = %name, %error, "could not be read to its end");
        }
        Err(error) => return tracing::error!(database = %name, %error, "the reading ended"),
    };
    if scrubbed.rotten.is_empty() {
        return tracing::debug!(database = %name, pages = scrubbed.pages, "sound");
    }
    tracing::error!(
        database = %name, pages = ?scrubbed.rotten, position = %scrubbed.position,
        "pages are not what was written: the disk changed them; asking the other nodes"
    );
    for pgno in scrubbed.rotten {
        mend_and_tell(membership, &name, incarnation, pgno).await;
    }
}

/// Mends what reads find, until the node ends.
pub async fn on_reads(membership: Arc<Membership>) {
    let rotten = &membership.databases.shared().rotten;
    loop {
        let page = rotten.next().await;
        let (name, incarnation, pgno) = &page;
        let mended = mend_and_tell(&membership, name, *incarnation, *pgno).await;
        rotten.done(&page, mended);
    }
}

async fn mend_and_tell(
    membership: &Arc<Membership>,
    name: &DatabaseName,
    incarnation: Incarnation,
    pgno: u32,
) -> bool {
    let mended = mend(membership, name, incarnation, pgno).await;
    match &mended {
        Ok(from) => tracing::warn!(database = %name, pgno, from, "a rotten page was mended"),
        Err(why) => tracing::error!(
            database = %name, pgno, why,
            "a rotten page could not be mended; restart the node, and it fetches the database anew"
        ),
    }
    mended.is_ok()
}

async fn mend(
    membership: &Arc<Membership>,
    name: &DatabaseName,
    incarnation: Incarnation,
    pgno: u32,
) -> Result<String, String> {
    let known = membership.roster.now();
    let mut whys = Vec::new();
    for node in membership.roster.others(membership.me) {
        let wanted = Wanted { name: name.clone(), incarnation, pgno };
        let request = serde_json::to_vec(&wanted).map_err(|error| error.to_string())?;
        let page = match membership.mesh.call(node, PAGE, request.into(), ANSWER).await {
            Ok(page) => page,
            Err(error) => {
                whys.push(error.to_string());
                continue;
            }
        };
        let (databases, name) = (Arc::clone(&membership.databases), name.clone());
        let put = tokio::task::spawn_blocking(move || databases.mend(&name, pgno, &page)).await;
        match put.map_err(|error| error.to_string())? {
            Ok(true) => return Ok(known.name_of(node)),
            Ok(false) => whys.push(format!("{}: not the page as it is here", known.name_of(node))),
            Err(error) => whys.push(error.to_string()),
        }
    }
    Err(if whys.is_empty() { "there is no other node".into() } else { whys.join("; ") })
}

/// Another node's page is rotten.
pub async fn give(membership: &Arc<Membership>, request: &[u8]) -> Result<Bytes, String> {
    let wanted: Wanted = serde_json::from_slice(request).map_err(|error| error.to_string())?;
    let databases = Arc::clone(&membership.databases);
    let read = move || databases.page_for(&wanted.name, wanted.incarnation, wanted.pgno);
    let page = tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?;
    page.map(Bytes::from)
}
