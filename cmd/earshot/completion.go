package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"earshot/coordinator"
)

func (a *app) completionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print the shell's completion script",
		Long: `Print the shell's completion script. Names of nodes and services are completed by
asking the agent.`,
		Example: `  earshot completion bash > /etc/bash_completion.d/earshot
  earshot completion zsh > "${fpath[1]}/_earshot"
  earshot completion fish > ~/.config/fish/completions/earshot.fish`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: a.does(func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.stdout)
			default:
				return root.GenFishCompletion(a.stdout, true)
			}
		}),
	}
}

// completionFunc is how cobra asks for the words that could come next.
type completionFunc = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective)

// completionTime is how long a shell may wait for the agent.
const completionTime = 300 * time.Millisecond

// ask completes with names from the agent's status; without an agent, with
// nothing.
func (a *app) ask(names func(coordinator.Status) []string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	status, err := coordinator.NewClient(a.socket).Status(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return names(status), cobra.ShellCompDirectiveNoFileComp
}

// completeNodes completes the argument at the position with a node's name.
func (a *app) completeNodes(position int) completionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) != position {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.ask(func(s coordinator.Status) []string {
			var names []string
			for _, n := range s.Nodes {
				names = append(names, n.Name)
			}
			return names
		})
	}
}

// completeServices completes the first argument with a service's name.
func (a *app) completeServices(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.ask(func(s coordinator.Status) []string {
		var names []string
		for _, service := range s.Services {
			names = append(names, service.Name)
		}
		return names
	})
}

// completeMove completes SERVICE BUCKETS NODE.
func (a *app) completeMove(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.completeServices(cmd, args, begun)
	}
	return a.completeNodes(2)(cmd, args, begun)
}

// fixedCompletion completes a flag with one of some words.
func fixedCompletion(cmd *cobra.Command, flag string, words ...string) {
	// RegisterFlagCompletionFunc fails only for a flag that is not there.
	_ = cmd.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return slices.Clone(words), cobra.ShellCompDirectiveNoFileComp
	})
}
