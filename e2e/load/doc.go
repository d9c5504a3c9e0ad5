// Package load asks and answers in a lab: servers that tell which node they
// run on, generators that ask from many addresses at a steady rate, and a
// witness that reads on the client's wire who answered what, and how often.
//
// Servers and generators are processes of their own in a lab's namespaces: the
// executable is started again under a role (Roles), told what to do on its
// standard input, and writes one JSON object per line on its output.
//
// Be aware:
//   - Refused, reset and timed out are told apart by errno, never by text.
//   - That each client is answered once is judged by the Witness alone. A
//     client's socket hides the second answer.
package load
