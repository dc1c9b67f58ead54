//! Streams of frames: what arrives, how they end, and the bounds on what the other side may do.

use tokio::io::AsyncWriteExt;

use super::raw::good;
use super::*;

/// Both ends of a stream from one node to another.
async fn stream(purpose: Purpose) -> (Connection, Connection, (Node, Node)) {
    let (one, mut two) = two().await;
    let ours = one.mesh.connect(NodeId(2), purpose).await.expect("a stream");
    let incoming = if purpose == Purpose::Raft { &mut two.raft } else { &mut two.bulk };
    let (from, theirs) = soon("the stream", incoming.recv()).await.expect("a stream");
    assert_eq!(from, NodeId(1));
    (ours, theirs, (one, two))
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_go_both_ways_in_order() {
    let (ours, theirs, _nodes) = stream(Purpose::Raft).await;
    let sizes = [0, 1, 100, 16 << 10, (16 << 10) + 1, 300_000, 5, 16 << 20];
    let send = |mut sender: FrameSender| async move {
        for (n, size) in sizes.into_iter().enumerate() {
            let frame = Bytes::from(vec![n as u8; size]);
            if n % 2 == 0 {
                sender.feed(frame).await.expect("fed");
            } else {
                sender.send(frame).await.expect("sent");
            }
        }
        sender.close().await.expect("closed");
    };
    let receive = |mut receiver: FrameReceiver| async move {
        for (n, size) in sizes.into_iter().enumerate() {
            let frame = receiver.recv().await.expect("a frame").expect("not the end");
            assert_eq!(frame, Bytes::from(vec![n as u8; size]));
        }
        assert!(receiver.recv().await.expect("the end in order").is_none());
    };
    // Split over tasks, both ways at once.
    let tasks = [
        tokio::spawn(send(ours.sender)),
        tokio::spawn(send(theirs.sender)),
        tokio::spawn(receive(ours.receiver)),
        tokio::spawn(receive(theirs.receiver)),
    ];
    for task in tasks {
        soon("all frames", task).await.expect("no panic");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_break_is_told_from_an_end() {
    let (ours, mut theirs, _nodes) = stream(Purpose::Bulk).await;
    drop(ours);
    let broken = soon("the break", theirs.receiver.recv()).await;
    assert!(matches!(broken, Err(FrameError::Io(_))), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_long_a_frame_is_not_sent_and_does_no_harm() {
    let (mut ours, mut theirs, _nodes) = stream(Purpose::Bulk).await;
    let max = Purpose::Bulk.max_frame();
    let long = ours.sender.send(vec![0; max + 1].into()).await;
    assert!(matches!(long, Err(FrameError::TooLong { .. })));
    let longest = tokio::spawn(async move { ours.sender.send(vec![1; max].into()).await });
    let frame = soon("the frame", theirs.receiver.recv()).await.expect("good").expect("a frame");
    assert_eq!(frame.len(), max);
    longest.await.expect("no panic").expect("sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn receiving_may_be_dropped_and_taken_up_again() {
    let (mut ours, mut theirs, _nodes) = stream(Purpose::Raft).await;
    let sending = tokio::spawn(async move {
        for n in 0..200u32 {
            ours.sender.send(n.to_be_bytes().repeat(5000).into()).await.expect("sent");
        }
        ours
    });
    for n in 0..200u32 {
        let frame = loop {
            // Given up again and again, within frames too.
            let asked = timeout(Duration::from_micros(50), theirs.receiver.recv());
            if let Ok(frame) = asked.await {
                break frame;
            }
        };
        assert_eq!(frame.expect("good").expect("a frame"), n.to_be_bytes().repeat(5000));
    }
    sending.await.expect("no panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_giant_frame_header_ends_the_connection() {
    let ca = Ca::create("test").expect("a CA");
    let mut node = Node::start(config(&ca, 2, vec![peer(1, "127.0.0.1:1")])).await;
    let giant = [0xff; 4];
    let (mut raw, _) = good(&ca, Purpose::Raft).hello(&node.address()).await.expect("let in");
    let (_, mut stream) = soon("the stream", node.raft.recv()).await.expect("a stream");
    raw.write_all(&giant).await.expect("sent");
    let refused = soon("the refusal", stream.receiver.recv()).await.expect_err("too long");
    let max = Purpose::Raft.max_frame();
    assert!(matches!(refused, FrameError::TooLong { len: 0xffff_ffff, max: m } if m == max));

    let (mut raw, _) = good(&ca, Purpose::Rpc).hello(&node.address()).await.expect("let in");
    raw.write_all(&giant).await.expect("sent");
    let mut rest = [0];
    let ended = soon("the end", tokio::io::AsyncReadExt::read(&mut raw, &mut rest)).await;
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_stands_still_ends_the_wait() {
    let ca = Ca::create("test").expect("a CA");
    let mut node = Node::start(config(&ca, 2, vec![peer(1, "127.0.0.1:1")])).await;
    // Within the header, and within the body.
    for part in [&[0u8, 0][..], &[0, 0, 0, 100, 1, 2, 3]] {
        let (mut raw, _) = good(&ca, Purpose::Raft).hello(&node.address()).await.expect("let in");
        let (_, mut stream) = soon("the stream", node.raft.recv()).await.expect("a stream");
        stream.receiver.patience = Duration::from_millis(100);
        raw.write_all(part).await.expect("sent");
        // A drip does not renew the wait, nor does asking again.
        let dripping = tokio::spawn(async move {
            while part.len() > 4 && raw.write_all(&[0]).await.is_ok() && raw.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // Kept open, so that it is no break.
            std::future::pending::<()>().await;
        });
        let stalled = soon("the end", async {
            loop {
                let asked = timeout(Duration::from_millis(30), stream.receiver.recv());
                if let Ok(outcome) = asked.await {
                    break outcome;
                }
            }
        });
        let stalled = stalled.await;
        dripping.abort();
        assert!(matches!(stalled, Err(FrameError::Stalled(_))), "{stalled:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_does_not_read_ends_the_sending() {
    let (mut ours, _theirs, _nodes) = stream(Purpose::Bulk).await;
    ours.sender.patience = Duration::from_millis(100);
    let chunk = Bytes::from(vec![0; 500_000]);
    let stalled = soon("the end", async {
        loop {
            if let Err(error) = ours.sender.send(chunk.clone()).await {
                break error;
            }
        }
    });
    assert!(matches!(stalled.await, FrameError::Stalled(_)));
    let after = ours.sender.send(chunk).await;
    assert!(matches!(after, Err(FrameError::Abandoned)), "{after:?}");
}
