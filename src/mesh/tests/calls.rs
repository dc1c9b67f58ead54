//! Calls: answers, their order, their errors.

use super::*;

const TWO: NodeId = NodeId(2);

#[tokio::test(flavor = "multi_thread")]
async fn both_call_each_other() {
    let (one, two) = two().await;
    let who = |mesh: Mesh, to| async move { mesh.call(to, WHO, Bytes::new(), SOON).await };
    assert_eq!(who(one.mesh.clone(), TWO).await.as_deref(), Ok(&1u64.to_be_bytes()[..]));
    assert_eq!(who(two.mesh.clone(), NodeId(1)).await.as_deref(), Ok(&2u64.to_be_bytes()[..]));
    let empty = one.mesh.call(TWO, ECHO, Bytes::new(), SOON).await;
    assert_eq!(empty, Ok(Bytes::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_does_not_wait_for_an_earlier_call() {
    let (one, two) = two().await;
    let mesh = one.mesh.clone();
    let held = tokio::spawn(async move { mesh.call(TWO, HOLD, "held".into(), SOON).await });
    let quick = one.mesh.call(TWO, ECHO, "quick".into(), SOON).await;
    assert_eq!(quick.as_deref(), Ok(&b"quick"[..]));
    assert!(!held.is_finished());
    two.gate.add_permits(1);
    assert_eq!(held.await.expect("no panic").as_deref(), Ok(&b"held"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_at_once() {
    let (one, _two) = two().await;
    let calls = (0..5000u32).map(|n| {
        let mesh = one.mesh.clone();
        tokio::spawn(async move {
            let request = Bytes::from(n.to_be_bytes().repeat(1 + n as usize % 100));
            let answer = mesh.call(TWO, ECHO, request.clone(), 3 * SOON).await;
            assert_eq!(answer, Ok(request));
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.expect("an answer of its own");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_told_apart() {
    let (one, two) = two().await;
    let call = |method, request: Bytes, within| one.mesh.call(TWO, method, request, within);

    let failed = call(FAIL, Bytes::new(), SOON).await;
    assert_eq!(failed, Err(CallError::Handler { node: TWO, message: "no method 3".into() }));

    let short = Duration::from_millis(20);
    let late = call(HOLD, Bytes::new(), short).await.expect_err("nobody lets it go");
    assert_eq!(late, CallError::Timeout { node: TWO, waited: short });
    assert!(!late.never_arrived());

    let max = Purpose::Rpc.max_frame();
    let long = call(ECHO, vec![0; max].into(), SOON).await.expect_err("too long");
    assert!(matches!(long, CallError::TooLong { .. }), "{long}");
    let wanted = u32::try_from(max).expect("fits").to_be_bytes();
    let long = call(FILL, Bytes::copy_from_slice(&wanted), SOON).await.expect_err("too long");
    assert!(matches!(long, CallError::Handler { .. }), "{long}");

    let nobody = one.mesh.call(NodeId(9), ECHO, Bytes::new(), SOON).await;
    assert_eq!(nobody, Err(CallError::UnknownPeer(NodeId(9))));
    let myself = one.mesh.call(NodeId(1), ECHO, Bytes::new(), SOON).await;
    assert_eq!(myself, Err(CallError::UnknownPeer(NodeId(1))));

    // The connection outlived all of that, and the longest call there can be.
    two.gate.add_permits(1);
    let longest = Bytes::from(vec![1; max - 10]);
    assert_eq!(call(ECHO, longest.clone(), SOON).await, Ok(longest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_ends_when_the_peer_dies() {
    let (one, two) = two().await;
    let mesh = one.mesh.clone();
    let held = tokio::spawn(async move { mesh.call(TWO, HOLD, Bytes::new(), 6 * SOON).await });
    until("the call is there", || two.held.load(Ordering::SeqCst) == 1).await;
    two.die().await;
    let broken = soon("the break", held).await.expect("no panic").expect_err("no answer");
    assert_eq!(broken, CallError::Broken { node: TWO });
    assert!(!broken.never_arrived());

    until("the refusal", || one.mesh.peer_state(TWO) == Some(PeerEventKind::Refused)).await;
    let refused = one.mesh.call(TWO, ECHO, Bytes::new(), SOON).await.expect_err("nobody there");
    assert_eq!(refused, CallError::Refused { node: TWO });
    assert!(refused.never_arrived());
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_in_hand_is_refused_and_forgotten() {
    let (one, two) = two().await;
    let big = Bytes::from(vec![0; Purpose::Rpc.max_frame() - 10]);
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let (mesh, big) = (one.mesh.clone(), big.clone());
            tokio::spawn(async move { mesh.call(TWO, HOLD, big, 3 * SOON).await.map(|b| b.len()) })
        })
        .collect();
    until("some are refused", || calls.iter().filter(|c| c.is_finished()).count() >= 2).await;
    two.gate.add_permits(6);
    let mut busy = 0;
    for call in calls {
        match call.await.expect("no panic") {
            Ok(len) => assert_eq!(len, big.len()),
            Err(error) => {
                assert_eq!(error, CallError::Busy { node: TWO });
                busy += 1;
            }
        }
    }
    assert_eq!(busy, 2, "64 MiB hold four of them");
    assert_eq!(one.mesh.call(TWO, ECHO, big.clone(), SOON).await, Ok(big));
}

/// Not a test of speed: prints what a warm call costs. `cargo test -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints a figure"]
async fn cost_of_a_warm_call() {
    let (one, _two) = two().await;
    let request = Bytes::from(vec![0; 100]);
    let mut spent = Vec::new();
    for _ in 0..5000 {
        let began = std::time::Instant::now();
        one.mesh.call(TWO, ECHO, request.clone(), SOON).await.expect("an answer");
        spent.push(began.elapsed());
    }
    spent.sort();
    println!("median {:?}, 99 % {:?}", spent[2500], spent[4950]);
}
