//! The lease, driven through everything that nodes can propose.

use proptest::prelude::*;

use super::*;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

fn choose(node: NodeId) -> LeaseChange {
    LeaseChange::Choose { node, asked: None }
}

fn acquire(node: NodeId, session: &str, now_ms: u64) -> LeaseChange {
    LeaseChange::Acquire { node, session: session.into(), ttl_ms: 3000, now_ms }
}

fn end(node: NodeId, session: &str, end: End, now_ms: u64) -> LeaseChange {
    LeaseChange::End { node, session: session.into(), end, now_ms }
}

fn done(lease: &mut Lease, change: &LeaseChange) {
    assert_eq!(lease.change(change), Ok(()), "{change:?}");
}

/// one-primary, caught-up.
#[test]
fn only_the_chosen_node_takes_it_and_only_when_it_is_free() {
    let mut lease = Lease::default();
    assert_eq!(lease.change(&acquire(A, "s", 1)), Err(Refused::NotChosen));
    done(&mut lease, &choose(A));
    assert_eq!(lease.change(&acquire(B, "t", 1)), Err(Refused::NotChosen));
    done(&mut lease, &acquire(A, "s", 1));
    assert_eq!(lease.holder().unwrap().tenure, 1);
    // Its own word again changes nothing; another session of the same node is another one.
    done(&mut lease, &acquire(A, "s", 2));
    assert_eq!(lease.tenures(), 1);
    assert_eq!(lease.change(&acquire(A, "u", 3)), Err(Refused::LeaseHeld));
    done(&mut lease, &choose(B));
    assert_eq!(lease.change(&acquire(B, "t", 3)), Err(Refused::LeaseHeld));
    assert_eq!(lease.change(&end(A, "t", End::Died, 4)), Err(Refused::SessionUnknown));
    done(&mut lease, &end(A, "s", End::Died, 5));
    // Who lost it does not get it back before somebody is chosen.
    assert_eq!(lease.change(&acquire(A, "u", 6)), Err(Refused::NotChosen));
    assert_eq!(lease.change(&acquire(B, "t", 6)), Err(Refused::NotChosen));
    done(&mut lease, &choose(B));
    done(&mut lease, &acquire(B, "t", 9));
    let last = lease.history().back().unwrap();
    assert_eq!((last.number, last.node, last.before), (2, B, Some(A)));
    assert_eq!((last.vacant_ms, last.cause()), (4, Cause::Died));
}

#[test]
fn a_session_is_handed_over() {
    let mut lease = Lease::default();
    done(&mut lease, &choose(A));
    done(&mut lease, &acquire(A, "s", 1));
    done(&mut lease, &LeaseChange::Choose { node: B, asked: Some("n1".into()) });
    done(&mut lease, &acquire(B, "s", 2));
    assert_eq!(lease.holder().unwrap().node, B);
    let last = lease.history().back().unwrap();
    assert_eq!((last.cause(), last.asked.as_deref()), (Cause::Switchover, Some("n1")));
    assert_eq!((last.before, last.vacant_ms), (Some(A), 0));
    // The one before is out, also when it says the same again; and its end is not the other's.
    assert!(!lease.is_free_for(A, "t"));
    assert_eq!(lease.change(&end(A, "s", End::Died, 3)), Err(Refused::SessionUnknown));
    assert_eq!(lease.holder().unwrap().node, B);
    done(&mut lease, &end(B, "s", End::Died, 4));
}

#[test]
fn the_first_id_of_the_cluster_stays() {
    let mut lease = Lease::default();
    let id = |id: &str| LeaseChange::Identify { cluster_id: id.into() };
    done(&mut lease, &id("LFSC1"));
    done(&mut lease, &id("LFSC1"));
    assert_eq!(lease.change(&id("LFSC2")), Err(Refused::OtherCluster));
    assert_eq!(lease.cluster_id(), Some("LFSC1"));
    assert_eq!(lease.change(&id(&"x".repeat(257))), Err(Refused::TooLong));
}

fn changes() -> impl Strategy<Value = LeaseChange> {
    let node = (1..4_u64).prop_map(NodeId);
    let session = (0..4_u8).prop_map(|number| format!("s{number}"));
    prop_oneof![
        (node.clone(), any::<bool>()).prop_map(|(node, asked)| LeaseChange::Choose {
            node,
            asked: asked.then(|| "n1".to_owned())
        }),
        (node.clone(), session.clone(), 0..99_u64)
            .prop_map(|(node, session, now)| acquire(node, &session, now)),
        (node, session, 0..99_u64).prop_map(|(node, session, now)| end(
            node,
            &session,
            End::Expired,
            now
        )),
    ]
}

proptest! {
    /// one-primary: whatever is proposed in whatever order, the lease passes only from its holder, or
    /// through a choice; and a tenure has one holder.
    #[test]
    fn it_never_passes_by_itself(changes in prop::collection::vec(changes(), 0..60)) {
        let mut lease = Lease::default();
        for change in changes {
            let before = lease.clone();
            let outcome = lease.change(&change);
            prop_assert!(lease.is_consistent());
            if outcome.is_err() {
                prop_assert_eq!(&lease, &before);
                continue;
            }
            let (was, is) = (before.holder(), lease.holder());
            if was == is {
                continue;
            }
            match (was, is) {
                (None, Some(holder)) => {
                    prop_assert_eq!(before.chosen().map(|chosen| chosen.node), Some(holder.node));
                }
                (Some(old), Some(new)) => prop_assert_eq!(&old.session, &new.session),
                (Some(old), None) => {
                    let LeaseChange::End { node, .. } = change else { panic!("{change:?}") };
                    prop_assert_eq!((old.node, lease.chosen()), (node, None));
                }
                (None, None) => {}
            }
            let tenures = before.tenures() + u64::from(is.is_some());
            prop_assert_eq!(lease.tenures(), tenures);
        }
    }
}
