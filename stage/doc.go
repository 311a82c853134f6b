// Package stage composes typed channel stages into graphs that one errgroup
// runs, and mixes them with components of go-streams.
package stage
