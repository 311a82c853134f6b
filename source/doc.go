// Package source reads datasets.
package source
