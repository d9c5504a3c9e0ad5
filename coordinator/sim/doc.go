// Package sim is a whole cluster in one testing/synctest bubble, under random
// faults, with a judge that knows what every kernel lets through at every
// moment. Its code is all in tests.
//
// Real: coordinator; raftstore with its state, forming, joining, membership,
// log and transport repairs; hashicorp/raft. Models: the kernel (a map with its
// index and a lease that runs out by itself), the disk, the network, the
// speed of each node's clock, and processes that are stopped, killed and
// started again.
//
// # What is judged
//
//   - I1, at every change of any kernel's map or lease: no two kernels open one
//     bucket. A node that is out of everybody's reach counts, too. Where clients
//     send packets, at each of them: no two nodes answer one flow, whatever was
//     held, asked about and passed meanwhile (rule P24).
//   - I2: no bucket is without an opener for longer than the bound after one
//     fault, while a majority of the voters lives and a node is in that can
//     take it. After several at once: the cluster comes to rest again.
//   - I3, in one run of four, in which clients send packets: no drain ends while
//     a connection lasts, unless the drain is cut short or the node was dead.
//   - I4: no kernel goes back to an older map under a lease.
//   - I5: what was acknowledged is in everybody's state when the cluster is at
//     rest, and all states of one index are equal.
//
// The bound of I2 is L + M for the lease that has to run out, as much again for
// the wait after an election of which nobody can say when it began (P6), an election (Raft's times are L/4; two
// rounds in which votes are split are counted in), and 250 ms for what does
// not depend on the lease: 4 L and 250 ms. A disk or a kernel that hangs is
// found by its effect first (P5, P10: 2 L each), so 7 L and 250 ms. A node that
// does not come back from its restart: 4 L, 250 ms and a twenty-fifth of the
// restart lease, which is how much sooner it ends and how much longer it is
// waited for.
//
// One cluster of four has a witness. In one of four clients send packets; where
// they do, a bucket that settles (P24) does not count as open, and the bounds of
// I2 are a lease longer.
//
// DESIGN.md beside package coordinator has a table of what the simulation finds
// when a rule is taken away.
//
// Be aware:
//   - A seed repeats the faults and what the models throw dice for, not the
//     order of goroutines, nor Raft's own random times. A failing run
//     prints what happened; run its seed several times to see it again.
//   - A process that is stopped gets no further than its next call outwards;
//     its timers still run until then. Raft's is a line in its log: a leader that is
//     stopped is one still when it goes on.
//   - A clock that is wrong is modelled as a kernel whose leases last up to a
//     hundredth longer than they should: leaders count right.
//   - The kernel's installing of a lease (rule P8), and what its rules do with a
//     packet, are models of package nft's.
//   - A wait for a mutex whose holder waits for time keeps a bubble's time from
//     passing. A run that stands still ends the program, with its seed.
package sim
