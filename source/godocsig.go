package source

import (
	"bytes"
	"go/ast"
	"go/printer"
	"go/token"
	"strings"
)

// Bounds of a signature: how many methods and fields of a type it names, after
// how many bytes of them it stops, and the longest value of a constant or
// variable that it shows.
const (
	mostMembers    = 6
	longestMembers = 120
	longestValue   = 60
)

// funcSignature returns the declaration of a function without its body.
func funcSignature(d *ast.FuncDecl) string {
	return oneLine(&ast.FuncDecl{Recv: d.Recv, Name: d.Name, Type: d.Type})
}

// typeSignature returns the declaration of a type with the exported fields of
// a struct and the methods of an interface, or the first of them.
func typeSignature(s *ast.TypeSpec) string {
	head := oneLine(&ast.GenDecl{Tok: token.TYPE, Specs: []ast.Spec{
		&ast.TypeSpec{Name: s.Name, TypeParams: s.TypeParams, Assign: s.Assign, Type: ast.NewIdent("_")},
	}})
	return strings.TrimSuffix(head, "_") + typeText(s.Type)
}

// typeText prints a type, shortened if it is a struct or an interface.
func typeText(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StructType:
		return "struct" + members(t.Fields, false)
	case *ast.InterfaceType:
		return "interface" + members(t.Methods, true)
	default:
		return oneLine(t)
	}
}

// members prints fields or methods in braces.
func members(list *ast.FieldList, methods bool) string {
	var shown []string
	length := 0
	more := false
	for _, f := range list.List {
		if len(shown) == mostMembers || length > longestMembers {
			more = true
			break
		}
		text := typeText(f.Type)
		if len(f.Names) > 0 {
			var names []string
			for _, n := range f.Names {
				if n.IsExported() {
					names = append(names, n.Name)
				}
			}
			if len(names) < len(f.Names) {
				more = true
			}
			if len(names) == 0 {
				continue
			}
			if text = strings.Join(names, ", ") + " " + text; methods {
				text = names[0] + strings.TrimPrefix(typeText(f.Type), "func")
			}
		} else if !methods && !ast.IsExported(embeddedName(f.Type)) {
			more = true
			continue
		}
		shown = append(shown, text)
		length += len(text)
	}
	if more {
		shown = append(shown, "...")
	}
	switch {
	case len(shown) == 0:
		return "{}"
	case !methods && len(shown) == 1 && more:
		return "{...}"
	default:
		return "{ " + strings.Join(shown, "; ") + " }"
	}
}

// embeddedName returns the name of the field that an embedded type makes.
func embeddedName(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return embeddedName(t.X)
	case *ast.SelectorExpr:
		return t.Sel.Name
	case *ast.IndexExpr:
		return embeddedName(t.X)
	case *ast.IndexListExpr:
		return embeddedName(t.X)
	case *ast.Ident:
		return t.Name
	default:
		return ""
	}
}

// valueSignature returns the declaration of a constant or variable, with its
// value if that is short.
func valueSignature(tok token.Token, s *ast.ValueSpec) string {
	text := tok.String() + " " + s.Names[0].Name
	if s.Type != nil {
		text += " " + typeText(s.Type)
	}
	if len(s.Values) > 0 {
		if value := oneLine(s.Values[0]); len(value) <= longestValue {
			text += " = " + value
		}
	}
	return text
}

// oneLine prints a node. Without a file's line table the printer knows no line
// breaks; those it makes itself, in composite types, become spaces.
func oneLine(node any) string {
	var b bytes.Buffer
	if err := (&printer.Config{Mode: printer.RawFormat}).Fprint(&b, token.NewFileSet(), node); err != nil {
		return "" // the node was parsed, and a buffer takes everything
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
