-- Notes that members are online. `common.lua` runs before this.
--
-- ARGV[1]     prefix
-- ARGV[2]     milliseconds until they go offline, unless another heartbeat comes before
-- ARGV[3]     milliseconds within which the caller must publish a change
-- ARGV[4...]  members
--
-- Returns `changes`.

local ends, claim = now + tonumber(ARGV[2]), tonumber(ARGV[3])
for i = 4, #ARGV do
  local member = ARGV[i]
  local entry = read(member)
  if not entry then
    entry = {online = true, changed = now, before = 0, claimed = now + claim}
    add_change(member, entry)
  elseif not entry.online then
    flip(entry, claim)
    add_change(member, entry)
  end
  entry.ends = ends
  write(member, entry)
  redis.call('HSET', key(member), 'heartbeat', text(now))
end
redis.call('PEXPIRE', members_key, text(ends - now + day))
return changes
