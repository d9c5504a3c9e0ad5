package main

import (
	"fmt"
	"strings"
	"text/template/parse"
)

// recipeText is a parsed template of the kinds in switches: text, facts by
// name ({{.MAC}}) and {{if}} over a fact, over {{or}} and over {{not}}.
//
// It is a small part of text/template, whose parser it uses. The package
// itself calls methods by names that it learns as it runs. A program with that
// has to keep every method of every type: 4 MB of each agent's memory.
type recipeText struct{ root *parse.ListNode }

// errRecipe is wrapped with the place in a template that says too much.
func errRecipe(n parse.Node) error { return fmt.Errorf("fill in recipe: cannot do %q", n) }

func parseRecipe(text string) (recipeText, error) {
	trees, err := parse.Parse("recipe", text, "", "", map[string]any{"or": true, "not": true})
	if err != nil {
		return recipeText{}, fmt.Errorf("parse recipe: %w", err)
	}
	return recipeText{trees["recipe"].Root}, nil
}

// fill writes the template with the facts.
func (r recipeText) fill(facts map[string]any) (string, error) {
	var out strings.Builder
	if err := write(&out, r.root, facts); err != nil {
		return "", err
	}
	return out.String(), nil
}

func write(out *strings.Builder, list *parse.ListNode, facts map[string]any) error {
	if list == nil { // no {{else}}
		return nil
	}
	for _, n := range list.Nodes {
		if err := writeNode(out, n, facts); err != nil {
			return err
		}
	}
	return nil
}

func writeNode(out *strings.Builder, n parse.Node, facts map[string]any) error {
	switch n := n.(type) {
	case *parse.TextNode:
		out.Write(n.Text)
		return nil
	case *parse.ActionNode:
		value, err := valueOfPipe(n.Pipe, facts)
		text, ok := value.(string)
		if err == nil && !ok {
			err = errRecipe(n)
		}
		out.WriteString(text)
		return err
	case *parse.IfNode:
		value, err := valueOfPipe(n.Pipe, facts)
		yes, ok := value.(bool)
		switch {
		case err != nil:
			return err
		case !ok:
			return errRecipe(n.Pipe)
		case yes:
			return write(out, n.List, facts)
		}
		return write(out, n.ElseList, facts)
	}
	return errRecipe(n)
}

// valueOfPipe is a fact, or what or and not make of facts.
func valueOfPipe(p *parse.PipeNode, facts map[string]any) (any, error) {
	if len(p.Cmds) != 1 || len(p.Decl) != 0 {
		return nil, errRecipe(p)
	}
	args := p.Cmds[0].Args
	function, called := args[0].(*parse.IdentifierNode)
	if !called {
		if len(args) != 1 {
			return nil, errRecipe(p)
		}
		return fact(args[0], facts)
	}
	some := false
	for _, arg := range args[1:] {
		value, err := fact(arg, facts)
		if err != nil {
			return nil, err
		}
		yes, ok := value.(bool)
		if !ok {
			return nil, errRecipe(arg)
		}
		some = some || yes
	}
	if function.Ident == "not" {
		return !some, nil
	}
	return some, nil
}

func fact(n parse.Node, facts map[string]any) (any, error) {
	if field, ok := n.(*parse.FieldNode); ok && len(field.Ident) == 1 {
		if value, known := facts[field.Ident[0]]; known {
			return value, nil
		}
	}
	return nil, errRecipe(n)
}
