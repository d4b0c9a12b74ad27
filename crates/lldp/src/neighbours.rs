//! The devices that were heard on one line, and the one of them that counts.

use std::time::Duration;

use ka_proto::wiring::Wiring;

use crate::frame::Advertisement;

/// Most devices of one line that are remembered. A switch without LLDP passes on the frames of all others, and a
/// stranger may invent devices.
const MAX_NEIGHBOURS: usize = 16;

#[derive(Debug)]
struct Neighbour {
    wiring: Wiring,
    until: Duration,
}

/// The switches that were heard on one line. Pure: times are durations since any fixed moment.
#[derive(Debug, Default)]
pub struct Neighbours(Vec<Neighbour>);

impl Neighbours {
    /// Takes in a frame's word. Devices that are no switches are ignored.
    pub fn hear(&mut self, now: Duration, heard: Advertisement) {
        self.0.retain(|known| {
            known.until > now
                && !(known.wiring.chassis == heard.wiring.chassis && known.wiring.port == heard.wiring.port)
        });
        if heard.is_switch && !heard.lasts.is_zero() && self.0.len() < MAX_NEIGHBOURS {
            self.0.push(Neighbour {
                wiring: heard.wiring,
                until: now + heard.lasts,
            });
        }
    }

    /// Returns the switch port at the other end of the line. Machines behind a switch without LLDP hear the same
    /// ones, so the first by name counts for all of them.
    #[must_use]
    pub fn nearest(&self, now: Duration) -> Option<&Wiring> {
        let live = self.0.iter().filter(|known| known.until > now);
        live.map(|known| &known.wiring)
            .min_by_key(|wiring| (&wiring.chassis, &wiring.port))
    }
}

#[cfg(test)]
mod tests {
    use ka_proto::PlaceName;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn heard(switch: &str, port: &str, seconds: u32) -> Advertisement {
        Advertisement {
            wiring: Wiring {
                chassis: PlaceName::new(switch).unwrap(),
                system_name: None,
                port: PlaceName::new(port).unwrap(),
                vlan: None,
                speed_mbit: None,
            },
            lasts: SECOND * seconds,
            is_switch: true,
        }
    }

    fn port(known: &Neighbours, now: Duration) -> Option<String> {
        known.nearest(now).map(ToString::to_string)
    }

    #[test]
    fn a_word_holds_for_its_time_and_is_renewed_and_taken_back() {
        let mut known = Neighbours::default();
        assert_eq!(known.nearest(SECOND), None);
        known.hear(SECOND, heard("a", "1", 2));
        assert_eq!(port(&known, 2 * SECOND).unwrap(), "switch a port 1");
        assert_eq!(known.nearest(3 * SECOND), None);
        known.hear(SECOND, heard("a", "1", 9));
        assert_eq!(port(&known, 9 * SECOND).unwrap(), "switch a port 1");
        known.hear(SECOND, heard("a", "1", 0));
        assert_eq!(known.nearest(2 * SECOND), None);
    }

    #[test]
    fn of_several_switches_the_first_by_name_counts_and_stations_never() {
        let mut known = Neighbours::default();
        known.hear(SECOND, heard("b", "1", 9));
        known.hear(SECOND, heard("a", "2", 9));
        let mut station = heard("0", "0", 9);
        station.is_switch = false;
        known.hear(SECOND, station);
        assert_eq!(port(&known, SECOND).unwrap(), "switch a port 2");
    }

    #[test]
    fn invented_devices_fill_a_bounded_table_until_their_time_is_over() {
        let mut known = Neighbours::default();
        for number in 0..1000 {
            known.hear(SECOND, heard(&format!("x{number}"), "1", 60));
        }
        assert_eq!(known.0.len(), MAX_NEIGHBOURS);
        known.hear(62 * SECOND, heard("a", "1", 60));
        assert_eq!(known.0.len(), 1);
    }
}
