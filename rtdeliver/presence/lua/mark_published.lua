-- Notes which changes are published. Removes a member when the change to offline is published.
-- `common.lua` runs before this.
--
-- ARGV[1]     prefix
-- ARGV[2...]  for each change: the member, and when it changed
--
-- Returns 1.

for i = 2, #ARGV, 2 do
  local member, at = ARGV[i], tonumber(ARGV[i + 1])
  local entry = read(member)
  if entry and entry.before == at then
    entry.before = 0
    write(member, entry)
  elseif entry and entry.changed == at and entry.online then
    entry.before, entry.claimed = 0, 0
    write(member, entry)
  elseif entry and entry.changed == at then
    redis.call('DEL', key(member))
    redis.call('ZREM', members_key, member)
  end
end
return 1
