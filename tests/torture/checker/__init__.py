"""Judges what the clients recorded. Knows nothing of clusters: files and lists in, anomalies out.

What is promised, and so what is looked for:

- all writes of a database stand in one order, which agrees with real time: who begins after another
  was acknowledged comes after it (no-lost-ack, one-history);
- what was acknowledged is there once, what was refused is not there, what is unknown is there once or
  not at all;
- a reader sees a beginning of that order, whole (invisible-until-committed), perhaps an old one; on
  one node, while its daemon lives, never an older one than was seen or written there before; after a
  barrier nothing older than what had been acknowledged when the barrier was asked for (caught-up);
- a reader's snapshot does not change while it is open (readers-go-on).
"""
