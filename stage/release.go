package stage

import "reflect"

// Releaser is a value that holds a counted reference, such as an Arrow record.
// A stage that drops a value releases it.
type Releaser interface{ Release() }

// Retainer is a [Releaser] whose references can be added to, as [Tee] must.
type Retainer interface{ Retain() }

// drop gives up a value that nobody will receive.
func drop[T any](v T) {
	visit(reflect.ValueOf(&v).Elem(), Releaser.Release)
}

// retain adds n references to v.
func retain[T any](v T, n int) {
	visit(reflect.ValueOf(&v).Elem(), func(r Retainer) {
		for range n {
			r.Retain()
		}
	})
}

// visit calls fn for v if v or its address is an R, and otherwise, where v is
// a slice or an array, for its elements.
func visit[R any](v reflect.Value, fn func(R)) {
	switch v.Kind() {
	case reflect.Invalid:
		return
	case reflect.Interface:
		visit(v.Elem(), fn)
		return
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Chan, reflect.Func:
		if v.IsNil() {
			return
		}
	}
	if r, ok := v.Interface().(R); ok {
		fn(r)
		return
	}
	if v.CanAddr() {
		if r, ok := v.Addr().Interface().(R); ok {
			fn(r)
			return
		}
	}
	if k := v.Kind(); (k == reflect.Slice || k == reflect.Array) && mayHold[R](v.Type().Elem()) {
		for i := range v.Len() {
			visit(v.Index(i), fn)
		}
	}
}

// mayHold reports whether a value of type t can be or contain an R; it spares
// the walk over a long slice of numbers.
func mayHold[R any](t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Slice, reflect.Array:
		if mayHold[R](t.Elem()) {
			return true
		}
	}
	r := reflect.TypeFor[R]()
	return t.Implements(r) || reflect.PointerTo(t).Implements(r)
}
