package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	run := m.Run
	if len(os.Args) > 1 && os.Args[1] == "hostage" {
		run = hostage
	}
	os.Exit(Program{Run: run, Roles: map[string]Role{"echo": echo, "wait": wait, "parent": parent}}.Main())
}

// echo answers each line on TCP port 7 with the name it was given.
func echo(args []string) int {
	ln, err := net.Listen("tcp", ":7")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for {
		conn, err := ln.Accept()
		if err != nil {
			return 1
		}
		_, _ = io.WriteString(conn, args[0])
		conn.Close()
	}
}

// wait ends by status 3 on SIGTERM.
func wait([]string) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	fmt.Println("waiting")
	<-ctx.Done()
	return 3
}

// parent starts a child that nothing ties to its parent, and waits as well.
func parent(args []string) int {
	child := exec.Command("/proc/self/exe", args...)
	child.Args[0] = rolePrefix + "wait"
	if err := child.Start(); err != nil {
		return complain("start", err)
	}
	return wait(nil)
}

// hostage builds a lab with running processes, says so, and stays: a program
// that is there to be killed.
func hostage() int {
	l, err := New(Options{Nodes: 2, Clients: 1})
	if err != nil {
		return complain("build", err)
	}
	for _, n := range l.Nodes {
		if _, err := n.Namespace.Start(Command{Role: "parent", Args: []string{os.Args[2]}}); err != nil {
			return complain("start", err)
		}
	}
	fmt.Println("ready in", l.dir)
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	<-ctx.Done()
	return 0
}
