// Package encode holds the contract of encoders.
package encode
