"""Every interval and threshold of membership, in seconds unless said otherwise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True)
class DirectoryTiming:
    """Intervals and thresholds.

    Not frozen: whoever holds it follows a changed configuration.

    Attributes:
        digest_min: Digests are sent after a random time between this
        digest_max: and this.
        digest_mesh: To peers outside this node's own subnet not more often than this.
        fan_out: Peers that a digest or an announcement goes to. Eight random ones of many reach
            everybody in a few steps; digests find whom chance left out.
        gather: Announcements to peers are at least this far apart, so that they fill up while
            much is new; the first one after a pause goes at once.
        want_timeout: Records that were asked for and did not come are looked for again.
        stale_local: Silence after which a peer in this node's own subnet is stale.
        stale_mesh: The same for all others, and for nodes without a session with this one.
        forget: Silence after which a node is removed.
        retain: Silence after which nothing is known of it any more. Long after everybody forgot
            it, or else its record would come back.
        settle: A claim that was accepted less than this ago and one that comes then were made
            at once: the one that has been held for longer wins, whichever came first.
        simultaneous: Two claims whose ages differ by less are equally old: the smaller id wins.
        probe_interval: Between the probes of a holder.
        probes: Probes of a holder, as a number.
        probe_answer: Time to answer the last probe.
        probe_again: After a holder answered, it is probed again after this long, later in
            doubled steps: what was heard may have been its last words.
        probe_again_max: Longest step.
        reclaim: Between two records that this node signs because another process with its key
            signs records too.
    """

    digest_min: float = 5.0
    digest_max: float = 10.0
    digest_mesh: float = 30.0
    fan_out: int = 8
    gather: float = 0.1
    want_timeout: float = 3.0
    stale_local: float = 30.0
    stale_mesh: float = 120.0
    forget: float = 600.0
    retain: float = 3600.0
    settle: float = 2.0
    simultaneous: float = 2.0
    probe_interval: float = 0.3
    probes: int = 3
    probe_answer: float = 0.4
    probe_again: float = 1.0
    probe_again_max: float = 30.0
    reclaim: float = 5.0
