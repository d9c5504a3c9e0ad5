package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"earshot/coordinator"
)

// The environment variables of the command line.
const (
	envConfig = envPrefix + "CONFIG"
	envSocket = envPrefix + "SOCKET"
)

// app is what the commands share: the outside world, which tests replace.
type app struct {
	stdout, stderr io.Writer
	terminal       terminal
	kernel         kernel
	runAgent       func(ctx context.Context, cfg config, logger *slog.Logger) error
	// question asks whoever sits at the terminal, if somebody does.
	question func(text string) (answer string, asked bool)

	socket string // --socket
	// understood: the command line was right; what fails now is no misuse.
	understood bool
}

// run executes one command line and returns the exit status.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetErr(a.stderr)
	if len(args) == 0 {
		root.SetOut(a.stderr)
		_ = root.Help() // what fails here is standard error
		return exitMisuse
	}
	root.SetOut(a.stdout)
	err := root.ExecuteContext(ctx)
	if err != nil && !a.understood {
		err = withHint(misuse{err}, wayOut(root, args))
	}
	if err != nil {
		report(a.stderr, err)
	}
	return exitStatus(err)
}

// wayOut is a hint for a command line that was not understood.
func wayOut(root *cobra.Command, args []string) string {
	cmd, _, err := root.Find(args)
	if err == nil {
		return "see `" + cmd.CommandPath() + " --help`"
	}
	// Only an unknown command is not found.
	if near := root.SuggestionsFor(args[0]); len(near) > 0 {
		return "did you mean " + strings.Join(near, " or ") + "?"
	}
	return "see `" + root.Name() + " --help`"
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:                "earshot",
		Short:              "Clustering without a load balancer: every node hears every frame, exactly one answers",
		SilenceErrors:      true,
		SilenceUsage:       true,
		DisableSuggestions: true, // wayOut has them
		CompletionOptions:  cobra.CompletionOptions{DisableDefaultCmd: true},
		// How far a mistyped word may be from the command that was meant.
		SuggestionsMinimumDistance: 2,
	}
	root.AddCommand(
		a.agentCommand(), a.statusCommand(), a.outCommand(), a.inCommand(), a.moveCommand(), a.whichCommand(), a.eventsCommand(), a.reloadCommand(), a.applyCommand(),
		a.forgetCommand(), a.recoverCommand(), a.keygenCommand(), a.checkCommand(), a.flushCommand(), a.versionCommand(), a.completionCommand(),
	)
	return root
}

// commandFunc is the body of a command.
type commandFunc func(cmd *cobra.Command, args []string) error

// does marks the command line as understood before the body runs.
func (a *app) does(f commandFunc) commandFunc {
	return func(cmd *cobra.Command, args []string) error {
		a.understood = true
		return f(cmd, args)
	}
}

// clientCommand is a command that talks to an agent.
func (a *app) clientCommand(cmd *cobra.Command, f func(cmd *cobra.Command, c *coordinator.Client, args []string) error) *cobra.Command {
	cmd.Flags().StringVar(&a.socket, "socket", a.defaultSocket(), "the agent's Unix socket; also "+envSocket)
	_ = cmd.MarkFlagFilename("socket") // fails only for a flag that is not there
	cmd.RunE = a.does(func(cmd *cobra.Command, args []string) error {
		return f(cmd, coordinator.NewClient(a.socket), args)
	})
	return cmd
}

func (a *app) defaultSocket() string {
	if s := os.Getenv(envSocket); s != "" {
		return s
	}
	return defaultSocket
}

// configFlag gives a command its --config.
func (a *app) configFlag(cmd *cobra.Command, file *string) {
	fallback := defaultConfig
	if s := os.Getenv(envConfig); s != "" {
		fallback = s
	}
	cmd.Flags().StringVar(file, "config", fallback, "the node's configuration file; also "+envConfig)
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
}
