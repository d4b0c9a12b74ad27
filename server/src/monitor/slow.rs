//! Who holds up the chain, from the run's words into the views'.

use ka_proto::pace::Bottleneck;
use ka_status::slow::{Slow, SlowWhy};

pub(super) fn shown(slow: ka_proto::run::Slow) -> Slow {
    Slow {
        why: match slow.why {
            Bottleneck::Disk => SlowWhy::Disk,
            Bottleneck::Link => SlowWhy::Link,
            Bottleneck::Processor => SlowWhy::Processor,
            Bottleneck::Reading => SlowWhy::Reading,
        },
        rate_bytes: slow.rate,
        others_bytes: slow.others,
        text: slow.to_string(),
    }
}
