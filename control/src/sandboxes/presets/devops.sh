packages ansible git make jq rsync openssh-client ca-certificates curl -- ansible git make jq rsync openssh-client ca-certificates curl -- ansible-core git make jq rsync openssh-clients ca-certificates curl
ansible --version | head -n 1
