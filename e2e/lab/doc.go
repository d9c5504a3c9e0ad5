// Package lab builds a small network on one machine: a switch, nodes that run
// real earshot agents, and clients, each in a network namespace of its own.
// Everything is made over netlink; no program needs to be installed, and no
// root is needed where user namespaces work.
//
// Be aware:
//   - A program that uses the lab runs inside Program.Main, which starts it
//     once more as the first process of new (user,) net, mount and pid
//     namespaces. When that process ends, even by kill -9, the kernel ends all
//     others and removes every namespace, link and temporary file: they live
//     on a tmpfs that only these processes see. Nothing is named in /run/netns.
//   - Inside, /run is that tmpfs and TMPDIR lies on it, so fsync costs nothing.
//     Options.Dir puts the nodes' data on a real disk.
//   - A socket remembers the namespace it was made in. Only the function given
//     to Namespace.Do runs inside, not the goroutines that it starts.
//   - Pdeathsig goes by the parent thread. Processes are started by the thread
//     that belongs to their namespace (Namespace.Start), which lives until the
//     namespace is closed.
package lab
