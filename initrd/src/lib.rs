//! Boot images from the golden node itself: stage1 (kernel, `/init`, network drivers) and stage2 (storage drivers,
//! file system and boot tools with their libraries). Issue 3 §2. No distribution's installer is needed.
