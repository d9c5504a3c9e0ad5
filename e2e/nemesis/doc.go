// Command nemesis breaks a cluster on the real kernel, under load, and has two
// judges watch, neither of which believes what an agent says:
//
//	go run ./e2e/nemesis -faults 300 -seed 7
//	go run ./e2e/nemesis -minutes 60
//	go run ./e2e/nemesis -kills 200
//
// The first judge listens to each node's kernel (package openings) and knows from
// every transaction which buckets the node opens flows in, and until when its
// lease lets it. No two nodes may do so in one bucket at one time (I1), and no
// bucket may be without a node for longer than a bound (I2). The second one
// reads the client's wire (load.Witness): a question that two nodes answer is
// a failure even if the client noticed nothing.
//
// Be aware:
//   - A transaction's time is known as a bracket: it came after the socket was
//     last seen empty, and not after it was read. A bracket is some 1 to 2 ms wide,
//     more on a busy machine; how wide it was is printed. An overlap counts if it
//     is certain whatever the moments in the brackets; one that is shorter than
//     its two brackets escapes this judge.
//   - The kernel's timers go by jiffies: a lease's end is known to 4 ms more.
//   - A node whose cable is out still opens flows by its kernel. What its clients
//     see of that is measured by the bench's failover part.
//   - A machine that did not run what wanted to run (pulse.go) has the bound
//     raised by as much. Overlaps are never excused.
//   - Gaps in which the quorum was lost on purpose are not judged; overlaps
//     always are.
package main
