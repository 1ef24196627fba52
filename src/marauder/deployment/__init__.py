"""What an ensemble costs on a device in the field: latency, memory, watt-hours a day. Planning; nothing is measured."""
