package load

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"earshot/e2e/lab"
)

const (
	roleServe    = "serve"
	roleGenerate = "generate"
)

// Roles are the roles that a program with servers and generators must have.
func Roles() map[string]lab.Role {
	return map[string]lab.Role{
		roleServe:    func([]string) int { return play(serve) },
		roleGenerate: func([]string) int { return play(generate) },
	}
}

// play reads the order from the first line of standard input and has it done.
// The rest of the input is a leash: its end is the end of the order.
func play[Order any](do func(order Order, leash io.Reader, out *json.Encoder) error) int {
	in := bufio.NewReader(os.Stdin)
	var order Order
	line, err := in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &order)
	}
	if err == nil {
		err = do(order, in, json.NewEncoder(os.Stdout))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// child is the parent's side of a role's process.
type child struct {
	*lab.Process
	leash *os.File      // closing it ends the order
	out   *os.File      // what the child writes
	lines *json.Decoder // of out
}

// order starts a role's process and gives it its order.
func order(n *lab.Namespace, role string, what any, log string) (*child, error) {
	in, leash, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, back, err := os.Pipe()
	if err != nil {
		leash.Close()
		return nil, err
	}
	defer back.Close()
	c := &child{leash: leash, out: out, lines: json.NewDecoder(out)}
	command := lab.Command{Role: role, Stdin: in, Stdout: back, Log: log}
	if log == "" {
		command.Stderr = os.Stderr
	}
	if c.Process, err = n.Start(command); err != nil {
		c.close()
		return nil, err
	}
	if err := json.NewEncoder(leash).Encode(what); err != nil {
		c.close()
		return nil, fmt.Errorf("order %s: %w", role, err)
	}
	return c, nil
}

// close lets go of both pipes.
func (c *child) close() {
	c.leash.Close()
	c.out.Close()
}
