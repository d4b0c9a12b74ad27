//! desc → layout plan → MBR/GPT → mkfs → mount tree.
