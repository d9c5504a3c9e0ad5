// Package peers tells how programs that others have written fare while the node
// that serves them goes and comes back: wrk, curl, iperf3, dig, and QUIC. What
// is missing is installed where that is allowed; else its story is skipped.
package peers
