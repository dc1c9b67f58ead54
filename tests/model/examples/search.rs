//! A search within bounds of one's own: `cargo run --example search -- transactions=2 elections=1`.

use model::search::search;
use model::world::{Bounds, Left};

fn main() {
    let mut left = Left::default();
    let mut bounds = Bounds { nodes: 3, writers: 2, tickets: 2, pumps_at_once: false, left };
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').unwrap_or((&argument, "1"));
        let value: u8 = value.parse().unwrap_or(0);
        match name {
            "nodes" => bounds.nodes = usize::from(value),
            "writers" => bounds.writers = usize::from(value),
            "pumps" => bounds.pumps_at_once = value > 0,
            "tickets" => bounds.tickets = u64::from(value),
            "transactions" => left.transactions = value,
            "elections" => left.elections = value,
            "crashes" => left.crashes = value,
            "deaths" => left.deaths = value,
            "repeats" => left.repeats = value,
            "timeouts" => left.timeouts = value,
            "lost" => left.lost = value,
            "retreats" => left.retreats = value,
            other => println!("no such bound: {other}"),
        }
    }
    bounds.left = left;
    let found = search(bounds, None, None);
    println!("{found}\nseen: {:?}", found.seen);
}
