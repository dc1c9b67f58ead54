//! What arrives is handed over: to a node that runs, when it is not cut off.

use std::sync::Arc;

use litefs_py::commit::METHOD;
use litefs_py::core::{DatabaseName, NodeId};
use litefs_py::raft::links::LinkError;

use super::{Do, MILLI, Status, World};
use crate::grants::{self, Request};
use crate::net::Event;
use crate::os::threads::machine;

impl World {
    pub(super) fn event(&mut self, event: Event) {
        let later = machine().now + 20 * MILLI;
        let net = self.sim.net.clone();
        match event {
            Event::Run(code) => self.act(Do::of(code)),
            Event::Request { to, .. } | Event::Open { to, .. } if self.is_paused(to) => {
                net.at(later, event);
            }
            Event::Answer { to, .. } if self.is_paused(to.node) => net.at(later, event),
            Event::Request { from, to, method, request, call } => {
                if net.is_cut(from.node, to) {
                    net.inner().counts.cut += 1;
                    return;
                }
                let Some(up) = self.up(to) else {
                    if self.lives[to] > 0 && self.status[to] == Status::Down {
                        let why = "nobody is there".to_owned();
                        let error = Err(LinkError { why, unreachable: true });
                        net.answers(to, from, call, error);
                    }
                    return;
                };
                let calls = Arc::clone(&up.calls);
                let asked = (method == METHOD).then(|| grants::request(&request)).flatten();
                if self.verbose
                    && let Some(asked) = &asked
                {
                    self.tell(&format!("n{} to n{to}: {asked:?}", from.node));
                }
                match &asked {
                    Some(Request::Unlock { term, database, ticket }) => {
                        self.released(*term, database, from.node, grants::number(*ticket));
                    }
                    // Who asks anew has thereby given up what it had by an older ticket.
                    Some(Request::Lock { term, database, ticket }) => {
                        self.released(*term, database, from.node, grants::number(*ticket) - 1);
                    }
                    _ => {}
                }
                let sim = Arc::clone(&self.sim);
                up.runtime.spawn(async move {
                    let id = NodeId(from.node as u64);
                    let answer = calls.call(id, method, request).await;
                    if let (Some(Request::Lock { term, database, ticket }), Ok(answer)) =
                        (asked, &answer)
                        && grants::is_granted(answer)
                    {
                        let (name, ticket) = (database.as_str(), grants::number(ticket));
                        sim.ledger.lock().unwrap().granted(term, name, from.node, ticket);
                    }
                    net.answers(to, from, call, answer.map_err(LinkError::new));
                });
            }
            Event::Answer { to, from, call, answer } => {
                let sender = net.caller(call);
                let alive = self.up(to.node).is_some_and(|up| up.life == to)
                    || self.lives[to.node] == to.life && self.status[to.node] == Status::Runs;
                match sender {
                    Some(sender) if alive && !net.is_cut(from, to.node) => {
                        let _gone = sender.send(answer);
                    }
                    Some(sender) if !alive => std::mem::forget(sender),
                    Some(sender) => drop(sender),
                    None => {}
                }
            }
            Event::Open { from, to, purpose, stream } => {
                if net.is_cut(from.node, to) || net.is_cut(to, from.node) {
                    return;
                }
                if self.lives[from.node] != from.life || self.status[from.node] != Status::Runs {
                    return;
                }
                if self.is_paused(from.node) {
                    return net.at(later, Event::Open { from, to, purpose, stream });
                }
                let Some(up) = self.up(to) else {
                    if let Some(opened) = net.refuses(stream) {
                        let why = "nobody is there".to_owned();
                        let _gone = opened.send(Err(LinkError { why, unreachable: true }));
                    }
                    return;
                };
                let Some((other, opened)) = net.accepts(stream, up.life) else { return };
                let calls = Arc::clone(&up.calls);
                up.runtime.spawn(async move {
                    calls.stream(NodeId(from.node as u64), purpose, other).await;
                });
                let _gone = opened.send(Ok(()));
            }
            Event::Frames { stream, there } => {
                if let Some(ends) = net.ends(stream)
                    && (self.is_paused(ends.0) || self.is_paused(ends.1))
                {
                    return net.at(later, Event::Frames { stream, there });
                }
                let mut gone = false;
                for (receiver, frame) in net.frames(stream, there) {
                    gone |= receiver.send(frame).is_err();
                }
                if gone {
                    for (receiver, frame) in net.breaks(stream) {
                        let _gone = receiver.send(frame);
                    }
                }
            }
        }
    }

    fn released(&self, term: u64, database: &DatabaseName, node: usize, ticket: u64) {
        self.sim.ledger.lock().unwrap().released(term, database.as_str(), node, ticket);
    }
}
