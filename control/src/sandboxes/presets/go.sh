packages golang git ca-certificates curl -- go git ca-certificates curl -- golang git ca-certificates curl
go version
