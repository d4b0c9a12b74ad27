//! Who holds up the chain, from the run's words into the views'.

use ka_proto::pace::Bottleneck;
use ka_status::slow::{Slow, SlowWhy};

pub(super) fn shown(slow: ka_proto::run::Slow) -> Slow {
    Slow {
        why: match slow.why {
            Bottleneck::Disk => SlowWhy::Disk,
            Bottleneck::Command => SlowWhy::Command,
            Bottleneck::Output => SlowWhy::Output,
            Bottleneck::Link => SlowWhy::Link,
            Bottleneck::Sending => SlowWhy::Sending,
            Bottleneck::Processor => SlowWhy::Processor,
            Bottleneck::Reading => SlowWhy::Reading,
        },
        rate_bytes: slow.rate,
        others_bytes: slow.others,
        waiting: slow.waiting,
        text: slow.to_string(),
    }
}
