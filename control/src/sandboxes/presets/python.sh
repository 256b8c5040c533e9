packages python3 python3-pip python3-venv git ca-certificates curl -- python3 py3-pip git ca-certificates curl -- python3 python3-pip git ca-certificates curl
python3 --version
