// Package e2e holds stories: real agents in a lab's namespaces, real HTTP
// servers and clients, and a witness on the client's wire. Each test names
// what it defends, by the invariants of the design (I1 …) where there is one.
//
// Run them with go test ./e2e, as root or without. EARSHOT_BIN names a program
// to test in place of the one that is built from this module. Two stories are
// short unless they are told to be long: -querier 2m has a bridge's querier
// about at its usual pace for that time, -badfor 1m sends bad frames for that
// time.
package e2e
