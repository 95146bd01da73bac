"""Fills the two disks whose backups are in store/. Usage: disks.py 1, then disks.py 2, in a folder with pool/."""
import hashlib, sys
E=65536
def noise(seed, n):
    out=b""; i=0
    while len(out)<n:
        out+=hashlib.sha256(f"{seed}/{i}".encode()).digest(); i+=1
    return out[:n]
def text(n, line): return (line*(n//len(line)+1))[:n]
def write(path, size, parts):
    with open(path,"r+b" if sys.argv[1]=="2" else "wb") as f:
        f.truncate(size)
        for at,data in parts:
            f.seek(at); f.write(data)
S=5*E+1536
D=(1<<30)+E+512
if sys.argv[1]=="1":
    write("pool/small",S,[(0,text(E,b"Longshore moves disks. ")),*((2*E+512*(3+20*k),noise(f"sector{k}",512)) for k in range(6)),(3*E,bytes(E)),(4*E+1000,noise("run",3000)),(5*E,noise("tail",1536))])
    write("pool/deep",D,[(0,noise("first",700)),(127*E+5,b"end of the first leaf"),(128*E,text(E,b"second leaf ")),((1<<30)-512,noise("g",512)),((1<<30)+E,noise("last",512))])
else:
    write("pool/small",S,[(1*E,text(E,b"no longer zeros ")),(2*E,bytes(E)),(5*E+100,b"changed")])
    write("pool/deep",D,[(9000*E+17,b"one change in the middle"),(127*E+5,bytes(30))])
