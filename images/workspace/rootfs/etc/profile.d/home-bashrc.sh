# A workspace's home starts empty, without the ~/.profile that would make a login shell read ~/.bashrc.
if [ "${PS1-}" ] && [ "${BASH-}" ] && [ -r ~/.bashrc ] &&
  [ ! -e ~/.bash_profile ] && [ ! -e ~/.bash_login ] && [ ! -e ~/.profile ]; then
  . ~/.bashrc
fi
