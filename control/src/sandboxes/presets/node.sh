packages nodejs npm git ca-certificates curl -- nodejs npm git ca-certificates curl -- nodejs npm git ca-certificates curl
node --version
npm --version
