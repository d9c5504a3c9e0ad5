// Package openings knows when nodes open flows in their buckets, by the nodes'
// kernels and not by what agents say: it listens to the changes of their sets,
// and finds times in which two nodes did, or none, and how long moves took.
//
// Be aware: a transaction's time is known as a bracket. It came after the socket
// was last seen empty, and not after it was read: 1 to 2 ms, more on a busy machine.
package openings
