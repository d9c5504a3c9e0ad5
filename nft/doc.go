// Package nft is the data plane: the only package that talks to the kernel
// about packets. A Ruleset says what this node is to answer; a Plane makes the
// kernel hold it: nf_tables rules, the shared addresses, the memberships in the
// cluster MACs, the lease. DESIGN.md beside it gives the reasons.
//
// Be aware:
//   - The kernel goes on without the process: rules, addresses and a running
//     lease stay when it ends, and the next one adopts them.
//   - Tables are named "earshot", one per family. Sets change, rules stay;
//     what others put into our tables is removed, their own tables are left
//     alone.
//   - There is one writer: one Plane that calls Apply and Lease per network
//     namespace.
//   - The IGMP or MLD membership beside a multicast cluster MAC ends with the
//     process; what switches have learned from it lasts some minutes.
//   - Nothing tells of a cluster MAC that others removed: call Resync and
//     Apply now and then. When nothing differs that costs some milliseconds
//     and writes nothing.
//   - A UDP server that listens on all addresses answers from the node's own:
//     it must listen on the shared address, or use IP_PKTINFO.
package nft
