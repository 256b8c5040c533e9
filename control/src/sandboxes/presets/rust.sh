packages rustc cargo gcc libc6-dev pkg-config git ca-certificates curl -- rust cargo gcc musl-dev pkgconf git ca-certificates curl -- rust cargo gcc pkgconf git ca-certificates curl
cargo --version
