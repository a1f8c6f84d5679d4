# For every interactive bash. A workspace's home starts empty, so what ~/.bashrc usually brings is here.
[ -z "$PS1" ] && return

shopt -s checkwinsize histappend
HISTSIZE=10000
HISTFILESIZE=20000
HISTCONTROL=ignoreboth
PS1='\[\e[32m\]\u@\h\[\e[0m\]:\[\e[34m\]\w\[\e[0m\]\$ '
alias ls='ls --color=auto' grep='grep --color=auto' ll='ls -alF'

if [ -f /usr/share/bash-completion/bash_completion ] && ! shopt -oq posix; then
  . /usr/share/bash-completion/bash_completion
fi
